"""What two processes of torchrun do in test_distributed.py, all in one start because starting takes seconds.

    torchrun --nproc-per-node 2 two_ranks.py FOLDER

FOLDER holds `images.npy`, `indices.npy` and `alone.pt`, the state of a single process after three steps; every process
leaves `rankN.pt`, a dictionary by scenario.
"""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import numpy as np
import torch
from method_studies import METHODS, method_study
from tiny_runs import TINY_RESNET, tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.augmentation.views import MultiCropViews
from augscale.errors import AugscaleError, Paused
from augscale.pretraining.distributed import init_distributed
from augscale.pretraining.loop import pretrain

PATIENTS = np.arange(14) // 2
BATCH_NORM = {"backbone": TINY_RESNET}


def main(folder: Path) -> None:
    images, indices = np.load(folder / "images.npy"), np.load(folder / "indices.npy")
    found = {}
    with init_distributed("cpu") as context:

        def run(study=None, rows=indices, **arguments):
            arguments = {"seed": 3, "log_every": 1, "context": context} | arguments
            return pretrain(images, rows, PRESETS["strong"], study=study or tiny_study(), **arguments)

        def keep(name, result):
            weights = copy.deepcopy(result.backbone.state_dict())
            found[name] = {"losses": result.loss_history, "information": result.information, "weights": weights}

        def keep_error(name, **arguments):
            try:
                run(**arguments)
            except (AugscaleError, Paused) as error:
                found[name] = f"{type(error).__name__}: {error}"
            else:
                found[name] = "no error"

        keep("whole", run())
        keep("accumulated", run(accumulate=2))
        keep("drop path", run(tiny_study(backbone={"drop_path": 0.5})))
        for method in METHODS:
            keep(f"by {method}", run(method_study(method, backbone={"drop_path": 0.3}), patients=PATIENTS))
        keep("resumed", run(state_path=folder / "alone.pt"))

        asked = iter([False] * 3 + [True])
        stop = (lambda: next(asked)) if context.rank == 1 else (lambda: False)
        keep_error("stopped", should_stop=stop, state_path=folder / "two.pt")

        def full_disk(entry):
            if entry.step == 2:
                raise OSError(28, "No space left on device")

        try:
            run(on_log=full_disk)
        except (AugscaleError, OSError) as error:
            found["failed"] = f"{type(error).__name__}: {error}"

        views, calls = MultiCropViews(PRESETS["strong"], tiny_study().crops, images.shape[1], 0), []

        def poisoned(batch, ids):
            calls.append(1)
            drawn = views(batch, ids)
            if len(calls) == 3 and context.rank == 1:
                drawn.global_crops[0] = math.nan
            return drawn

        keep_error("diverged", make_views=poisoned)
        keep_error("batch norm", study=tiny_study(**BATCH_NORM))
        keep_error("uneven", study=tiny_study(batch_size=5))
        keep_error("other images", rows=indices[: 11 - context.rank])
        calls_before = len(calls)
        keep_error("nothing more", should_stop=lambda: True)
        found["idle"] = len(calls) == calls_before
    torch.save(found, folder / f"rank{context.rank}.pt")


main(Path(sys.argv[1]))
