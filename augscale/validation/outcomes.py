"""Downstream outcomes of networks: AUROC and AUPR, on all test images, on resamples of them, and on halves.

Resamples and halves belong to the test set, not to a network: every network is scored on the same images in draw r.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from augscale.evaluation.predictions import Predictions
from augscale.records.metrics import EVALUATION_METRICS
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Floats, Integers
from augscale.statistics.stratified_bootstrap import percentile_interval, resample_weights, weighted_areas

METRICS = ("auroc", "aupr")
MEAN = "mean"
"""Name of the mean over all datasets."""
NUM_HALVES = 20


@dataclass(frozen=True, kw_only=True)
class OutcomeName:
    """A metric of one protocol on one dataset."""

    dataset: str
    protocol: str
    metric: str

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.protocol}/{self.metric}"

    @property
    def label(self) -> str:
        where = "mean over datasets" if self.dataset == MEAN else self.dataset
        return f"{EVALUATION_METRICS[self.metric].label} {self.protocol}, {where}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One metric of one network, on all test images, on resamples and on halves of them."""

    value: float
    draws: Floats = field(repr=False)
    """float64, shape (R,)."""
    halves: Floats | None = field(repr=False)
    """float64, shape (S, 2), or None where a class has a single test image or patient."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % over test images."""
        return percentile_interval(self.draws)


def network_outcomes(predictions: Sequence[Predictions], *, resamples: int, seed: int) -> dict[OutcomeName, Outcome]:
    """Outcomes of one network: the means over datasets, then those on the test images of each.

    Args:
        predictions: at most one per protocol and dataset.
        resamples: R.
        seed: of resamples and halves.
    """
    found: dict[OutcomeName, Outcome] = {}
    for p in predictions:
        own = derive_seed(seed, "validation", p.tested_on)
        draws = resample_weights(p.labels, p.groups, resamples=resamples, seed=own)
        halves = half_weights(p.labels, p.groups, seed=own)
        columns = [np.ones((len(p.labels), 1)), draws, *([] if halves is None else [halves])]
        areas = macro_areas(p.labels, p.scores, np.concatenate(columns, axis=1))
        for metric, values in areas.items():
            name = OutcomeName(dataset=p.tested_on, protocol=p.protocol, metric=metric)
            split = None if halves is None else values[1 + resamples :].reshape(NUM_HALVES, 2)
            found[name] = Outcome(value=float(values[0]), draws=values[1 : 1 + resamples], halves=split)
    datasets = {name.dataset for name in found}
    if len(datasets) > 1:
        return _means(found, len(datasets)) | found
    return found


def macro_areas(labels: Integers, scores: Floats, weights: Floats) -> dict[str, Floats]:
    """Macro one-vs-rest AUROC and AUPR over the classes present, for every column of weights.

    Args:
        labels: int64, shape (N,), at least two classes.
        scores: float64, shape (N, K).
        weights: shape (N, B), at least 0; every class present has some weight in every column.
    """
    curves = [weighted_areas(labels == c, scores[:, c], weights) for c in np.unique(labels)]
    areas = np.mean(curves, axis=0)
    return dict(zip(METRICS, areas, strict=True))


def half_weights(
    labels: Integers, groups: Integers | None, *, splits: int = NUM_HALVES, seed: int = 0
) -> Floats | None:
    """Random halves of the test images, whole patients, each class as evenly as its patients allow.

    Returns:
        float64 zeros and ones, shape (N, 2 S): columns 2 s and 2 s + 1 are the halves of split s. None where some
        class could be missing from a half.
    """
    own = np.arange(len(labels)) if groups is None else np.asarray(groups)
    patients, first, patient_of = np.unique(own, return_index=True, return_inverse=True)
    strata = labels[first]
    generator = np.random.default_rng(derive_seed(seed, "halves"))
    weights = np.zeros((len(labels), 2 * splits))
    for split in range(splits):
        half = np.empty(len(patients), dtype=np.int64)
        for stratum in np.unique(strata):
            members = generator.permutation(np.flatnonzero(strata == stratum))
            # The half that gets an odd patient is drawn at random, so that neither is always larger.
            half[members] = (np.arange(len(members)) + generator.integers(2)) % 2
        for side in (0, 1):
            weights[half[patient_of] == side, 2 * split + side] = 1.0
    present = np.unique(labels)
    complete = all((weights[labels == c].sum(axis=0) > 0).all() for c in present)
    return weights if complete else None


def reliability(values: Floats, draws: Floats) -> float | None:
    """Share of an outcome's variance between trials that does not come from the choice of test images, in [0, 1].

    1 - (mean variance over draws of a trial's distance from the trials' mean) / (variance between trials). Distances
    from the mean are used because images that are hard for all trials shift all of them and do not change ranks. Its
    square root is about the highest correlation that a score can reach. Chance of training is not included.

    Args:
        values: float, shape (n,).
        draws: float, shape (R, n).
    Returns:
        None for fewer than three trials, or trials that do not differ.
    """
    if len(values) < 3 or len(draws) < 2 or np.ptp(values) == 0:
        return None
    centered = draws - draws.mean(axis=1, keepdims=True)
    noise = float(centered.var(axis=0, ddof=1).mean())
    return float(np.clip(1 - noise / values.var(ddof=1), 0.0, 1.0))


def _means(found: Mapping[OutcomeName, Outcome], num_datasets: int) -> dict[OutcomeName, Outcome]:
    means: dict[OutcomeName, Outcome] = {}
    for protocol, metric in dict.fromkeys((name.protocol, name.metric) for name in found):
        parts = [o for name, o in found.items() if (name.protocol, name.metric) == (protocol, metric)]
        if len(parts) == num_datasets:
            halves = [part.halves for part in parts if part.halves is not None]
            means[OutcomeName(dataset=MEAN, protocol=protocol, metric=metric)] = Outcome(
                value=float(np.mean([part.value for part in parts])),
                draws=np.mean([part.draws for part in parts], axis=0),
                halves=np.mean(halves, axis=0) if len(halves) == num_datasets else None,
            )
    return means
