"""`probe.score = "knn-auroc"`: a score from labels, for comparison with scores that need no labels.

Each validation image is classified by the vote of the training images nearest to it (`evaluation.neighbours`, DINO's
weighted k-NN). The score is the macro AUROC, averaged over the datasets. Test images are never read, so the scales are
not chosen on them. They are chosen with labels, though, and a report of such a search must say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.config import StudyConfig
from augscale.errors import DataError
from augscale.evaluation.datasets import LabelledImages, open_dataset
from augscale.evaluation.features import statistics_rows
from augscale.evaluation.neighbours import knn_scores, unit_rows
from augscale.evaluation.selection import macro_auroc
from augscale.evaluation.transforms import evaluation_views, read_images
from augscale.networks.batch_norm import Statistics, gather, use
from augscale.records.manifest import LabelledRecord
from augscale.scoring.embeddings import embed
from augscale.scoring.score import PanelScore
from augscale.seeding import derive_seed
from augscale.statistics.stratified_bootstrap import percentile_interval, resample_weights, weighted_areas

Floats = npt.NDArray[np.float64]

NAME = "knn-auroc"
NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Value of DINO's `eval_knn.py`. k is fixed, because it could only be chosen on the images of the score itself."""
_CHUNK_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class LabelledScore:
    """Macro AUROC of nearest neighbours; best 1, chance 0.5."""

    score: float
    """Mean over the datasets."""
    by_dataset: dict[str, float]
    interval: tuple[float, float] | None
    """95 % percentile interval over resampled validation images (patients where known); None without a bootstrap."""
    bootstrap_scores: Floats = field(repr=False, compare=False)
    """float64, shape (B,). Replicate b has the same images for every backbone."""

    def onto(self, panel: PanelScore) -> PanelScore:
        """The panel's findings with this score in place of the panel's own."""
        return replace(
            panel,
            score=self.score,
            score_name=NAME,
            interval=self.interval,
            bootstrap_scores=self.bootstrap_scores,
        )


def open_labelled(
    config: StudyConfig,
    *,
    allow_bad: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[LabelledImages, ...]:
    """The datasets of `probe.labelled`, decoded with the study's settings; none where the score needs none.

    Args:
        config: settings of the study.
        allow_bad, on_progress: see `open_dataset`.
    Raises:
        DataError: a dataset cannot be opened, or its train and val images cannot give an AUROC.
    """
    root = config.probe.labelled_root
    datasets = tuple(
        open_dataset(
            name,
            size=config.data.cache_size,
            data_root=None if root is None else Path(root),
            crop_to_field=config.data.crop_to_field,
            grey_range=config.data.range,
            allow_bad=allow_bad,
            unlabelled=config.probe.unlabelled,
            on_progress=on_progress,
        )
        for name in config.probe.labelled or ()
    )
    for dataset in datasets:
        _check(dataset)
    return datasets


def labelled_records(datasets: Sequence[LabelledImages]) -> tuple[LabelledRecord, ...]:
    """The datasets as a run's manifest names them; a resumed run must find the same."""
    return tuple(
        LabelledRecord(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            classes=tuple(dataset.classes),
            gallery=len(dataset.part("train")),
            queries=len(dataset.part("val")),
        )
        for dataset in datasets
    )


def score_labelled(
    backbone: nn.Module,
    datasets: Sequence[LabelledImages],
    *,
    view_size: int,
    device: str | torch.device | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    common: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> LabelledScore:
    """Scores a backbone; deterministic.

    Args:
        backbone: maps (B, 3, S, S) to (B, D); its mode is kept.
        datasets: from `open_labelled`, at least one.
        view_size: side of the views, pixels; the whole image, resized and cut as in an evaluation.
        device, should_stop: see `embed`.
        bootstrap: resamples of validation images.
        seed: of the resamples.
        common: gather batch norm's statistics on each dataset's training images first, see `batch_norm`.
    Raises:
        DivergedError: an embedding is not finite.
        Paused: `should_stop` returned True.
    """
    values: dict[str, float] = {}
    replicates = []
    for dataset in datasets:
        gallery, queries = dataset.part("train"), dataset.part("val")
        rows, places = np.unique(dataset.rows[np.concatenate([gallery, queries])], return_inverse=True)
        views = partial(_whole_views, dataset, view_size)
        statistics = Statistics.none()
        if common:
            statistics = gather(backbone, views(statistics_rows(dataset)), device=device, should_stop=should_stop)
        with use(backbone, statistics):
            chunks = [
                embed(backbone, views(rows[begin : begin + _CHUNK_IMAGES]), device=device, should_stop=should_stop)
                for begin in range(0, len(rows), _CHUNK_IMAGES)
            ]
        features = unit_rows(np.concatenate(chunks))[places]
        votes = knn_scores(
            features[: len(gallery)],
            dataset.labels[gallery],
            features[len(gallery) :],
            neighbours=NEIGHBOURS,
            temperature=TEMPERATURE,
            num_classes=len(dataset.classes),
        )
        labels = dataset.labels[queries]
        values[dataset.name] = float(macro_auroc(labels, votes))
        if bootstrap:
            weights = resample_weights(labels, dataset.groups[queries], resamples=bootstrap, seed=_seed(seed, dataset))
            present = np.unique(labels)
            replicates.append(np.mean([weighted_areas(labels == c, votes[:, c], weights)[0] for c in present], axis=0))
    resampled = np.mean(replicates, axis=0) if replicates else np.empty(0)
    return LabelledScore(
        score=float(np.mean(list(values.values()))),
        by_dataset=values,
        interval=percentile_interval(resampled) if bootstrap else None,
        bootstrap_scores=resampled,
    )


def _whole_views(dataset: LabelledImages, view_size: int, rows: npt.NDArray[np.int64]) -> Tensor:
    return evaluation_views(read_images(dataset.images, rows, torch.device("cpu")), view_size)


def _seed(seed: int, dataset: LabelledImages) -> int:
    return derive_seed(seed, NAME, dataset.name)


def _check(dataset: LabelledImages) -> None:
    classes = np.unique(dataset.labels[dataset.part("val")])
    if len(classes) < 2:
        found = f"{len(dataset.part('val'))} val images of {len(classes)} class{'es' * (len(classes) != 1)}"
        raise DataError(f'probe.labelled: {dataset.name} has {found}; "{NAME}" needs val images of at least 2 classes')
