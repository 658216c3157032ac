"""Where the time of `evaluate` and `diagnose` goes, part by part, beside a plain way to do the same.

    python -m benchmarks.waiting_parts evaluate timm:tf_efficientnet_lite0 --data DIR --size 224
    python -m benchmarks.waiting_parts diagnose CKPT --data DIR --images 300 --size 224

The command runs in this process with an empty cache; functions that make up a part are timed, without those called
within them that are parts themselves. Seconds are CPU seconds of all threads. For some parts the first call is repeated
in a plain way on the same input: scikit-learn as its documentation has it, timm's network in fp32 with torchvision's
transforms, Pillow.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import augscale
from augscale.evaluation.transforms import RESIZE_OVER_CROP
from augscale.system.devices import cpu_cores
from benchmarks.machine import cpu_name

PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "evaluate": {
        "decode and check the images": ("augscale.evaluation.evaluate:open_datasets",),
        "load the network": ("augscale.evaluation.evaluate:checkpoints_to_evaluate",),
        "build and hash networks": ("augscale.evaluation.evaluate:_networks",),
        "batch norm statistics": ("augscale.evaluation.features:gather",),
        "features": ("augscale.evaluation.features:FeatureStore._embed",),
        "linear: fits": ("augscale.evaluation.linear:fit_path",),
        "knn: votes": ("augscale.evaluation.neighbours:knn_scores",),
        "metrics, bootstrap, DeLong": ("augscale.evaluation.evaluate:summarize",),
        "tables and page": ("augscale.evaluation.evaluate:Evaluation.save",),
    },
    "diagnose": {
        "decode and check the images": ("augscale.diagnosis.diagnose:decode_images",),
        "load and build networks": (
            "augscale.diagnosis.diagnose:load_checkpoints",
            "augscale.diagnosis.diagnose:_subjects",
        ),
        "near-duplicates": ("augscale.diagnosis.photographs:ImageData.near_duplicates",),
        "views": (
            "augscale.diagnosis.photographs:Photographs.views",
            "augscale.diagnosis.photographs:Photographs.whole",
        ),
        "embeddings": ("augscale.diagnosis.subjects:embed",),
        "metrics of views": ("augscale.diagnosis.checkup:measure_views",),
        "metrics of photographs": ("augscale.diagnosis.checkup:measure_images",),
        "confusions": ("augscale.diagnosis.checkup:find_confusions",),
        "listed distances": ("augscale.diagnosis.checkup:_listed_distances",),
        "maps (t-SNE)": ("augscale.diagnosis.checkup:point_maps",),
        "figures (PNG)": ("augscale.reporting.diagnosis.page:all_figures",),
        "JSON, distances, page": ("augscale.diagnosis.result:Diagnosis.write",),
    },
}
_IMPORTS = {
    "evaluate": "import augscale.evaluation.evaluate, augscale.evaluation.linear, augscale.evaluation.finetune",
    "diagnose": "import augscale.diagnosis.diagnose",
}
_PLAIN_IMPORTS = "import torch, timm, sklearn.linear_model"
_MOST_PLAIN_IMAGES = 64


@dataclass
class Spent:
    """CPU seconds of one part, and its first call."""

    seconds: float = 0.0
    calls: int = 0
    first_seconds: float = 0.0
    first_call: tuple[tuple[Any, ...], dict[str, Any]] | None = None


@dataclass
class Timers:
    """Times functions without the timed functions that they call."""

    parts: dict[str, Spent] = field(default_factory=dict)
    _inner: list[float] = field(default_factory=list)

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        spent = self.parts.setdefault(part, Spent())

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.process_time() - start
                own = whole - self._inner.pop()
                if self._inner:
                    self._inner[-1] += whole
                spent.seconds += own
                spent.calls += 1
                if spent.first_call is None:
                    spent.first_call, spent.first_seconds = (args, kwargs), own

        return timed


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    print(f"{cpu_name()}, {cpu_cores()} cores, {arguments.threads} threads, torch {torch.__version__}")
    timers = Timers()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        patch_parts(stack, timers, PARTS[arguments.command])
        start = time.process_time()
        _run(arguments, Path(scratch))
        total = time.process_time() - start
        stack.close()
        _print(arguments, timers, total)


def patch_parts(stack: ExitStack, timers: Timers, parts: Mapping[str, tuple[str, ...]]) -> None:
    """Times functions until the stack closes.

    Args:
        stack: takes the patches.
        timers: where times go.
        parts: by name the functions that make up a part, as "module:name" or "module:Class.name".
    """
    for part, places in parts.items():
        for place in places:
            module, _, name = place.partition(":")
            owner: Any = importlib.import_module(module)
            *classes, last = name.split(".")
            for one in classes:
                owner = getattr(owner, one)
            stack.enter_context(patch.object(owner, last, timers.wrap(part, getattr(owner, last))))


def _run(arguments: argparse.Namespace, scratch: Path) -> None:
    common = {
        "arch": arguments.arch,
        "size": arguments.size,
        "device": "cpu",
        "out": scratch / "out",
        "cache_root": scratch / "cache",
    }
    data = [Path(path) for path in arguments.data]
    if arguments.command == "evaluate":
        augscale.evaluate(arguments.checkpoint, datasets=data, protocols=arguments.protocol.split(","), **common)
    else:
        augscale.diagnose(arguments.checkpoint, data=data, images=arguments.images, **common)


def _print(arguments: argparse.Namespace, timers: Timers, total: float) -> None:
    print("\n| part | CPU s | calls | first call | the same in a plain way | ratio |\n|---|---|---|---|---|---|")
    ours, theirs = (_import_seconds(code) for code in (_IMPORTS[arguments.command], _PLAIN_IMPORTS))
    print(f"| imports | {ours:.1f} | | {ours:.2f} | {theirs:.2f}: torch, timm, scikit-learn | {theirs / ours:.1f} |")
    for part, spent in timers.parts.items():
        line = f"| {part} | {spent.seconds:.1f} | {spent.calls} | {spent.first_seconds:.2f} |"
        if part in PLAIN and spent.first_call is not None:
            args, kwargs = spent.first_call
            what, seconds = PLAIN[part](*args, **kwargs)
            print(f"{line} {seconds:.2f}: {what} | {seconds / max(spent.first_seconds, 1e-9):.1f} |")
        else:
            print(f"{line} | |")
    known = sum(spent.seconds for spent in timers.parts.values())
    print(f"| rest | {total - known:.1f} | | | | |\n| all but imports | {total:.1f} | | | | |")


def _import_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _plain_features(store: Any, encoder: Any, dataset: Any, rows: Any, view: Any) -> tuple[str, float]:
    """timm's network as it is, and torchvision's transforms, on the first images; scaled to all."""
    from PIL import Image
    from torchvision import transforms as T

    side = int(view.view_size * RESIZE_OVER_CROP)
    steps = [T.Resize(side, T.InterpolationMode.BICUBIC), T.CenterCrop(view.view_size), T.ToTensor()]
    transform = T.Compose([*steps, T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    shown = rows[:_MOST_PLAIN_IMAGES]
    start = time.process_time()
    with torch.inference_mode():
        encoder.backbone.model(torch.stack([transform(Image.fromarray(dataset.images[row])) for row in shown]))
    seconds = (time.process_time() - start) * len(rows) / len(shown)
    return "timm, torchvision", seconds


def _plain_fits(features: Any, labels: Any, weights: Any, config: Any) -> tuple[str, float]:
    from sklearn.linear_model import LogisticRegression

    start = time.process_time()
    for c in config.inverse_penalties:
        LogisticRegression(C=c, tol=config.tolerance, max_iter=config.max_iterations).fit(features, labels, weights)
    return "LogisticRegression for each C", time.process_time() - start


def _plain_votes(
    train: Any, labels: Any, queries: Any, *, neighbours: int, temperature: float, num_classes: int
) -> tuple[str, float]:
    from sklearn.neighbors import KNeighborsClassifier

    start = time.process_time()
    model = KNeighborsClassifier(neighbours, weights=lambda d: np.exp((1 - d) / temperature), metric="cosine")
    model.fit(train, labels).predict_proba(queries)
    return "KNeighborsClassifier", time.process_time() - start


def _plain_embeddings(backbone: Any, views: Any, **_: Any) -> tuple[str, float]:
    shown = views[:_MOST_PLAIN_IMAGES]
    start = time.process_time()
    with torch.inference_mode():
        backbone.model(shown)
    return "timm", (time.process_time() - start) * len(views) / len(shown)


def _plain_maps(clean: Any, views: Any, level: str, *, seed: int) -> tuple[str, float]:
    from sklearn.manifold import TSNE

    start = time.process_time()
    for points in [clean] if views is None else [clean, views[:24].reshape(-1, views.shape[-1])]:
        TSNE(perplexity=min(30.0, (len(points) - 1) / 3), random_state=seed).fit_transform(points)
    return "TSNE", time.process_time() - start


PLAIN: dict[str, Callable[..., tuple[str, float]]] = {
    "features": _plain_features,
    "linear: fits": _plain_fits,
    "knn: votes": _plain_votes,
    "embeddings": _plain_embeddings,
    "maps (t-SNE)": _plain_maps,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=tuple(PARTS))
    parser.add_argument("checkpoint", help="a weights file, or timm:NAME")
    parser.add_argument("--data", action="append", required=True, help="folder of photographs; may be repeated")
    parser.add_argument("--arch", help="timm's name, for files that do not state it")
    parser.add_argument("--size", type=int, default=224, help="side of the views, pixels")
    parser.add_argument("--protocol", default="linear,knn", help="of evaluate")
    parser.add_argument("--images", type=int, default=128, help="of diagnose")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
