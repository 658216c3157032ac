"""Protocol `released` as augscale runs it beside the authors' loop run image by image for all epochs.

    python -m benchmarks.evaluation                              # built-in photographs, small ViT at 64 px
    python -m benchmarks.evaluation --data DIR --images 600      # a folder of class folders, or a CSV with labels
    python -m benchmarks.evaluation --lr 0.03                    # heads that learn more than at the authors' rate

One small ViT is first trained by DINO for a moment on the training images, then frozen; both ways probe the same
network on the same images and split. Ours runs before and after the plain loop, so that a drift of the machine's
speed shows. Printed: AUROC and AUPR on test of every seed, their difference against the noise of the seeds, and wall
times with the ratio. The plain loop computes no gradients of the network, which the authors' does; what those cost is
measured in one epoch and printed beside.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from augscale.augmentation.scales import load_scales
from augscale.config import load_study
from augscale.data.cache import ImageCache, build_cache
from augscale.data.splits import patient_groups
from augscale.errors import DataError
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.interface import Encoder
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.released import Released
from augscale.pretraining.loop import pretrain
from augscale.runs.folders import versions
from augscale.system.devices import cpu_cores, resolve_device
from benchmarks.released_script import ReleasedScript, macro_auroc

_SHARES = {"train": 0.56, "val": 0.14, "test": 0.30}
"""Of the patients; those of the paper's datasets (Table 1)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitCache:
    """The labelled images of a cache, split by patient."""

    name: str
    classes: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    fingerprint: str

    def part(self, split: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.split == split)


def split_cache(cache: ImageCache, name: str) -> SplitCache:
    """Raises DataError where a class is missing from a split."""
    rows = np.array([row for row, record in enumerate(cache.records) if record.label is not None], dtype=np.int64)
    classes, labels = np.unique([cache.records[row].label or "" for row in rows], return_inverse=True)
    groups = np.asarray(patient_groups(cache.records))[rows]
    patients, member = np.unique(groups, return_inverse=True)
    place = np.random.default_rng(0).permutation(len(patients)) / len(patients)
    split = np.array(list(_SHARES))[np.searchsorted(np.cumsum(list(_SHARES.values()))[:-1], place, side="right")][
        member
    ]
    for part in _SHARES:
        if len(np.unique(labels[split == part])) < max(2, len(classes)):
            raise DataError(f"{name}: a class is missing from the split {part}; use more images")
    return SplitCache(
        name=name,
        classes=tuple(map(str, classes)),
        images=cache.images,
        rows=rows,
        labels=labels.astype(np.int64),
        groups=groups,
        split=split,
        fingerprint=cache.fingerprint,
    )


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    overrides = {"data.sources": arguments.data or ["synthetic"], "data.max_images": arguments.images}
    overrides |= {"data.synthetic_patients": arguments.images // 2, "pretrain.steps": arguments.pretrain_steps}
    study = load_study("fundus-cpu", overrides)
    dataset = split_cache(build_cache(study.data), ", ".join(study.data.sources))
    train = np.unique(dataset.rows[dataset.part("train")])
    backbone = pretrain(dataset.images, train, load_scales("weak"), study=study, seed=0, device=device).backbone
    encoder = Encoder(
        name="small ViT",
        backbone=backbone,
        arch=study.backbone.name,
        overrides=dict(study.backbone.overrides),
        image_size=study.crops.global_size,
    )
    released = {"epochs": arguments.epochs, "draws": arguments.draws, "lr": arguments.lr}
    config = ProtocolConfig.model_validate(
        {"view_size": study.crops.global_size, "seeds": arguments.seeds, "released": released}
    )
    _print_setting(arguments, device, dataset, encoder, config)

    labels = dataset.labels[dataset.part("test")]
    plain = ReleasedScript(
        backbone, dataset, config.view_size, config.released, device=device, workers=arguments.workers
    )
    ours, before = _ours(encoder, dataset, config, device)
    theirs, theirs_seconds = [], []
    for seed in range(config.seeds):
        watch = _Watch()
        theirs.append(plain.run(seed))
        theirs_seconds.append(watch.seconds())
    gradient_seconds = _gradient_seconds(plain) * config.released.epochs * config.seeds
    after = _ours(encoder, dataset, config, device)[1]
    _print_scores(labels, ours, theirs)
    _print_times([before, after], theirs_seconds, gradient_seconds, arguments.workers)


class _Watch:
    """Wall time, and this process's CPU time, which the load of others changes less."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def _ours(
    encoder: Encoder, dataset: SplitCache, config: ProtocolConfig, device: str
) -> tuple[list[npt.NDArray[np.float64]], tuple[float, float]]:
    """All seeds from nothing: features, heads, predictions."""
    with tempfile.TemporaryDirectory() as folder:
        watch = _Watch()
        protocol = Released(config, FeatureStore(Path(folder), device=device))
        scores = [protocol.fit(encoder, dataset, seed=seed).predict(dataset, "test") for seed in range(config.seeds)]
        return scores, watch.seconds()


def _gradient_seconds(plain: ReleasedScript, repeats: int = 3) -> float:
    """What one epoch takes longer with gradients of the network, median of epochs in turn."""
    differences = []
    for _ in range(repeats):
        seconds = {}
        for with_gradients in (False, True):
            plain.encoder_gradients = with_gradients
            seconds[with_gradients] = plain.throwaway_epoch()
        differences.append(seconds[True] - seconds[False])
    plain.encoder_gradients = False
    return float(np.median(differences))


def _print_setting(
    arguments: argparse.Namespace, device: str, dataset: SplitCache, encoder: Encoder, config: ProtocolConfig
) -> None:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"
    parameters = sum(parameter.numel() for parameter in encoder.backbone.parameters()) / 1e6
    counts = ", ".join(f"{len(dataset.part(part))} {part}" for part in _SHARES)
    recipe = config.released
    load = os.getloadavg()[0]
    print(f"device      {device} ({name}, {cpu_cores()} cores, {arguments.threads} threads, load {load:.1f})")
    print(f"versions    {', '.join(f'{package} {number}' for package, number in versions().items())}")
    print(
        f"network     {encoder.arch} {encoder.overrides} ({parameters:.1f} M), {arguments.pretrain_steps} steps of DINO"
    )
    print(f"images      {dataset.name}: {counts}, {len(dataset.classes)} classes, views of {config.view_size} px")
    print(
        f"recipe      {recipe.epochs} epochs, batch {recipe.batch_size}, lr {recipe.lr:g} x batch / 256, "
        f"{recipe.draws} cached crops per image\n"
    )


def _print_scores(
    labels: npt.NDArray[np.int64], ours: list[npt.NDArray[np.float64]], theirs: list[npt.NDArray[np.float64]]
) -> None:
    seeds = "".join(f"{f'seed {seed}':>9}" for seed in range(len(ours)))
    print(f"{'on test':24}{seeds}{'mean':>9}{'SD':>9}")
    for name, measure in (("AUROC", macro_auroc), ("AUPR", macro_aupr)):
        found = {
            way: np.array([measure(labels, s) for s in scores])
            for way, scores in (("augscale", ours), ("plain loop", theirs))
        }
        for way, values in found.items():
            numbers = "".join(f"{value:9.4f}" for value in [*values, values.mean(), values.std(ddof=1)])
            print(f"{name + ', ' + way:24}{numbers}")
        mine, other = found.values()
        p_value = stats.ttest_ind(mine, other, equal_var=False).pvalue
        noise = np.sqrt((mine.var(ddof=1) + other.var(ddof=1)) / 2)
        difference = mine.mean() - other.mean()
        in_noise = f"{abs(difference) / noise:.2f} seed SD (Welch p = {p_value:.2f})"
        print(f"{name}: means differ by {difference:+.4f}, {in_noise}\n")


def macro_aupr(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> float:
    """scikit-learn's average precision, class against rest, mean over all classes."""
    return float(np.mean([average_precision_score(labels == c, scores[:, c]) for c in range(scores.shape[1])]))


def _print_times(
    ours: list[tuple[float, float]], theirs: list[tuple[float, float]], gradients: float, workers: int
) -> None:
    print(f"{'all seeds, seconds':44}{'total':>9}   runs")
    for place, what in enumerate(("wall", "CPU")):
        if what == "CPU" and workers > 0:
            continue  # the workers' is not in it
        mine, other = [run[place] for run in ours], [run[place] for run in theirs]
        total = sum(other)
        print(f"{f'augscale, {what}':44}{np.mean(mine):9.1f}   {', '.join(f'{x:.1f}' for x in mine)} (all seeds each)")
        label = f"plain loop, {workers} DataLoader workers, {what}"
        print(f"{label:44}{total:9.1f}   {', '.join(f'{x:.1f}' for x in other)} (one per seed)")
        print(f"{f'ratio, {what}':44}{total / np.mean(mine):9.1f}")
    print(f"gradients of the network, which the authors' loop computes too: {gradients:.1f} s more")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", action="append", help="folder or manifest with labels; built-in photographs if not given"
    )
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pretrain-steps", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=cpu_cores())
    parser.add_argument("--workers", type=int, default=cpu_cores(), help="DataLoader workers of the plain loop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
