"""Estimated and real memory of a training step on a CPU: how far off `pretraining.memory_estimate` is.

Every case runs in a process of its own: four steps on random images, the estimate made before them, the peak of the
process's own memory (VmHWM less mapped files; Linux) read after them.

    python -m benchmarks.step_memory
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from augscale.pretraining.micro_batches import MicroBatches
from augscale.system.memory import resident_memory

CASES = {
    "ViT-tiny/16, 2 x 224 + 8 x 96, batch 16": ("vit_tiny_patch16_224", 224, 96, 8, 16, 1, "fp32"),
    "the same in 4 micro-batches": ("vit_tiny_patch16_224", 224, 96, 8, 16, 4, "fp32"),
    "ResNet-18, 2 x 224 + 8 x 96, batch 16": ("resnet18", 224, 96, 8, 16, 1, "fp32"),
    "ResNet-18, 2 x 112 + 4 x 48, batch 32 in 2": ("resnet18", 112, 48, 4, 32, 2, "fp32"),
    "default study": ("default", 0, 0, 0, 0, 1, "fp32"),
}
"""Backbone, sides and number of views, batch, micro-batches, precision."""


def study_of(case: str) -> dict[str, Any]:
    """Overrides of the study "table2", or none of "default"."""
    backbone, global_size, local_size, n_local, batch_size, _, precision = CASES[case]
    if backbone == "default":
        return {"pretrain.precision": precision, "pretrain.steps": 4}
    return {
        "backbone.name": backbone,
        "backbone.overrides": {},
        "crops.global_size": global_size,
        "crops.local_size": local_size,
        "crops.n_local": n_local,
        "pretrain.batch_size": batch_size,
        "pretrain.precision": precision,
        "pretrain.steps": 4,
    }


def measure(case: str) -> dict[str, float]:
    """Estimate and peak in MB, and the processor seconds of the estimate's passes."""
    import numpy as np
    import torch

    from augscale.augmentation.scales import PRESETS
    from augscale.config import load_study
    from augscale.pretraining import step
    from augscale.pretraining.loop import pretrain

    torch.set_num_threads(1)
    study = load_study("default" if CASES[case][0] == "default" else "table2", study_of(case))
    size = study.data.cache_size
    images = np.random.default_rng(0).integers(0, 256, (80, size, size, 3), dtype=np.uint8)
    found: dict[str, float] = {}

    def spy(chosen: MicroBatches, estimate: Callable[[], Callable[[int], int]], **_: Any) -> MicroBatches:
        start = time.process_time()
        peak = estimate()
        found["seconds"] = time.process_time() - start
        found["before"] = resident_memory() / 1e6
        found["estimate"] = peak(chosen.number) / 1e6
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the passes
        return chosen

    with mock.patch.object(step, "fewest_that_fit", spy):
        pretrain(images, np.arange(80), PRESETS["strong"], study=study, seed=0, device="cpu", accumulate=CASES[case][5])
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    kilobytes = {words[0]: int(words[1]) for words in lines if words[0] in ("VmHWM:", "RssFile:")}
    found["peak"] = (kilobytes["VmHWM:"] - kilobytes["RssFile:"]) * 1024 / 1e6
    found["ratio"] = (found["estimate"] - found["before"]) / (found["peak"] - found["before"])
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="only this one, in this process, as JSON")
    case = parser.parse_args().case
    if case:
        print(json.dumps(measure(case)))
        return
    for name in CASES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.step_memory", "--case", name], capture_output=True, text=True, check=True
        )
        values = json.loads(done.stdout)
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in values.items()), flush=True)


if __name__ == "__main__":
    main()
