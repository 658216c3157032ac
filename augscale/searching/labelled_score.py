"""Scores of a trial from labels: macro AUROC of a classifier on frozen features, averaged over the datasets.

- "cv-auroc" (`search --labels`): every train and val image is classified by ridge regressions that have not seen its
  patient (`evaluation.ridge`). It has the least noise, because it judges the most images.
- "knn-auroc": every val image is classified by the vote of the train images nearest to it (`evaluation.neighbours`,
  DINO's weighted k-NN).

Test images are never read, so the scales are not chosen on them. They are chosen with labels, though, and a report of
such a search must say so.
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

from augscale.config import KNN_AUROC, StudyConfig
from augscale.errors import DataError
from augscale.evaluation.datasets import LabelledImages, open_dataset
from augscale.evaluation.features import statistics_rows
from augscale.evaluation.neighbours import knn_scores, unit_rows
from augscale.evaluation.ridge import draw_folds, out_of_fold_scores, patients_by_class
from augscale.evaluation.transforms import evaluation_views, read_images
from augscale.networks.batch_norm import Statistics, gather, use
from augscale.records.manifest import LabelledRecord
from augscale.scoring.embeddings import embed
from augscale.scoring.score import PanelScore
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Floats, Floats32, Integers
from augscale.statistics.stratified_bootstrap import percentile_interval, resample_weights, weighted_areas

NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Value of DINO's `eval_knn.py`. k is fixed, because it could only be chosen on the images of the score itself."""
_CHUNK_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class LabelledScore:
    """Macro AUROC; best 1, chance 0.5."""

    name: str
    """"cv-auroc" or "knn-auroc"."""
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
            score_name=self.name,
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
    for place, dataset in enumerate(datasets):
        if any(dataset.name == other.name for other in datasets[:place]):
            raise DataError(f"probe.labelled: two datasets are called {dataset.name}; expected different names")
        _check(dataset, config.probe.score)
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


@dataclass(frozen=True, eq=False)
class _Judged:
    """The images of one dataset that are judged, and their scores by one or more classifiers.

    Attributes:
        labels: int64, shape (N,).
        groups: int64, shape (N,): patients.
        scores: float64, shape (R, N, K): one array per repeat.
        classes: the classes whose AUROC counts.
    """

    labels: Integers
    groups: Integers
    scores: Floats
    classes: Integers

    def auroc(self, weights: Floats) -> Floats:
        """Macro AUROC, mean over the repeats, for every column of weights (N, B); float64, shape (B,)."""
        areas = [
            weighted_areas(self.labels == number, scores[:, number], weights)[0]
            for scores in self.scores
            for number in self.classes
        ]
        return np.mean(areas, axis=0)


def score_labelled(
    backbone: nn.Module,
    datasets: Sequence[LabelledImages],
    *,
    name: str,
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
        name: "cv-auroc" or "knn-auroc".
        view_size: side of the views, pixels; the whole image, resized and cut as in an evaluation.
        device, should_stop: see `embed`.
        bootstrap: resamples of the judged images.
        seed: of the resamples.
        common: gather batch norm's statistics on each dataset's training images first, see `batch_norm`.
    Raises:
        DivergedError: an embedding is not finite.
        Paused: `should_stop` returned True.
    """
    judge = _by_neighbours if name == KNN_AUROC else _by_regression
    values: dict[str, float] = {}
    replicates = []
    for dataset in datasets:
        listed = np.concatenate([dataset.part("train"), dataset.part("val")])
        features = _features(backbone, dataset, listed, view_size, device, common, should_stop)
        judged = judge(dataset, features)
        values[dataset.name] = float(judged.auroc(np.ones((len(judged.labels), 1)))[0])
        if bootstrap:
            own_seed = derive_seed(seed, name, dataset.name)
            replicates.append(
                judged.auroc(resample_weights(judged.labels, judged.groups, resamples=bootstrap, seed=own_seed))
            )
    resampled = np.mean(replicates, axis=0) if replicates else np.empty(0)
    return LabelledScore(
        name=name,
        score=float(np.mean(list(values.values()))),
        by_dataset=values,
        interval=percentile_interval(resampled) if bootstrap else None,
        bootstrap_scores=resampled,
    )


def _features(
    backbone: nn.Module,
    dataset: LabelledImages,
    listed: Integers,
    view_size: int,
    device: str | torch.device | None,
    common: bool,
    should_stop: Callable[[], bool] | None,
) -> Floats32:
    """Embeddings of the listed images, float32, shape (len(listed), D); an image listed twice is embedded once."""
    rows, places = np.unique(dataset.rows[listed], return_inverse=True)
    views = partial(_whole_views, dataset, view_size)
    statistics = Statistics.none()
    if common:
        statistics = gather(backbone, views(statistics_rows(dataset)), device=device, should_stop=should_stop)
    with use(backbone, statistics):
        chunks = [
            embed(backbone, views(rows[begin : begin + _CHUNK_IMAGES]), device=device, should_stop=should_stop)
            for begin in range(0, len(rows), _CHUNK_IMAGES)
        ]
    found: Floats32 = np.concatenate(chunks)[places]
    return found


def _by_neighbours(dataset: LabelledImages, features: Floats32) -> _Judged:
    """Val images, classified by the train images nearest to them."""
    gallery, queries = dataset.part("train"), dataset.part("val")
    unit = unit_rows(features)
    votes = knn_scores(
        unit[: len(gallery)],
        dataset.labels[gallery],
        unit[len(gallery) :],
        neighbours=NEIGHBOURS,
        temperature=TEMPERATURE,
        num_classes=len(dataset.classes),
    )
    labels = dataset.labels[queries]
    return _Judged(labels, dataset.groups[queries], votes[None], np.unique(labels))


def _by_regression(dataset: LabelledImages, features: Floats32) -> _Judged:
    """Train and val images, classified by regressions that have not seen their patient."""
    labels, groups = _train_and_val(dataset)
    scores, _ = out_of_fold_scores(features, labels, draw_folds(labels, groups))
    return _Judged(labels, groups, scores, _scored_classes(labels, groups))


def _train_and_val(dataset: LabelledImages) -> tuple[Integers, Integers]:
    listed = np.concatenate([dataset.part("train"), dataset.part("val")])
    return dataset.labels[listed], dataset.groups[listed]


def _scored_classes(labels: Integers, groups: Integers) -> Integers:
    """Classes of at least two patients; a class of one is never trained on while its patient is judged."""
    return np.flatnonzero(patients_by_class(labels, groups) >= 2)


def _whole_views(dataset: LabelledImages, view_size: int, rows: npt.NDArray[np.int64]) -> Tensor:
    return evaluation_views(read_images(dataset.images, rows, torch.device("cpu")), view_size)


def _check(dataset: LabelledImages, score: str) -> None:
    """Refuses a dataset on which the score is undefined."""
    if score == KNN_AUROC:
        classes = np.unique(dataset.labels[dataset.part("val")])
        if len(classes) < 2:
            found = f"{len(dataset.part('val'))} val images of {len(classes)} class{'es' * (len(classes) != 1)}"
            raise DataError(
                f'probe.labelled: {dataset.name} has {found}; "{score}" needs val images of at least 2 classes'
            )
        return
    labels, groups = _train_and_val(dataset)
    if len(_scored_classes(labels, groups)) < 2:
        counts = patients_by_class(labels, groups)
        found = ", ".join(f"{name}: {count}" for name, count in zip(dataset.classes, counts.tolist(), strict=False))
        raise DataError(
            f'probe.labelled: {dataset.name} has too few patients in train and val ({found}); "{score}" needs at least '
            "2 classes of 2 patients each"
        )
