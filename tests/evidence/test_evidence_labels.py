"""Scores from few labels: the draws, the scores, and the table of how well they rank runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from augscale.errors import DataError
from augscale.evaluation.ridge import draw_folds
from benchmarks.evidence import label_tables
from benchmarks.evidence.correlations import Spread
from benchmarks.evidence.data import OutcomeData
from benchmarks.evidence.label_draws import drawn_images, label_scores
from benchmarks.evidence.records import Evidence, Run
from benchmarks.evidence.settings import MeasureSettings
from benchmarks.evidence.trust import few_labels

SETTINGS = MeasureSettings(label_sizes=(10, 40, 400), label_draws=4)


def _data(patients: int = 60, classes: int = 3) -> OutcomeData:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(patients), 2)
    labels = np.repeat(rng.integers(0, classes, size=patients), 2).astype(np.int64)
    ones = np.ones((len(groups), 1), np.float32)
    return OutcomeData(
        name="made",
        images=np.zeros((len(groups), 4, 4, 3), np.uint8),
        labels=labels,
        groups=groups,
        split=np.full(len(groups), "train"),
        folds=draw_folds(labels, groups),
        test_weights=ones,
        all_weights=ones,
    )


def test_a_draw_has_whole_patients_and_is_always_the_same() -> None:
    data = _data()

    rows = drawn_images(data, 25, 3)

    assert 25 <= len(rows) <= 26
    assert (np.bincount(data.groups[rows])[np.unique(data.groups[rows])] == 2).all()
    assert (drawn_images(data, 25, 3) == rows).all()
    assert set(drawn_images(data, 25, 4)) != set(rows)


def test_a_draw_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="made: 20 images; no draw of 20 has two classes and leaves two"):
        drawn_images(_data(10, 2), 20, 0)


def test_informative_features_score_high_and_noise_scores_as_chance() -> None:
    data, rng = _data(), np.random.default_rng(1)
    noise = rng.normal(size=(120, 8)).astype(np.float32)
    signal = noise + 3 * np.eye(8, dtype=np.float32)[data.labels]

    good, bad = (label_scores(features, data, SETTINGS) for features in (signal, noise))

    assert list(good) == [10, 40], "400 of 120 images cannot be drawn"
    for size in good:
        assert set(good[size]) == {"cv", "knn", "others"}
        assert all(len(values) == 4 for values in good[size].values())
    assert min(np.mean(good[40][name]) for name in ("cv", "knn", "others")) > 0.9
    assert max(np.mean(bad[40][name]) for name in ("cv", "knn", "others")) < 0.65


def _evidence(informative: bool) -> Evidence:
    """Ten runs of two seeds; a score from labels that is the outcome of the run or, else, unrelated to it."""
    rng = np.random.default_rng(2)
    runs = {
        f"r{k}-s{seed}": Run(
            run=f"r{k}-s{seed}", name=f"r{k}", kind="run", seed=seed, parts=("spread",), state="complete"
        )
        for k in range(10)
        for seed in range(2)
    }
    labels = {}
    for name, run in runs.items():
        quality = 0.6 + 0.01 * int(run.name[1:]) + 0.2 * run.seed
        labels[name, "eyes", 50, "others"] = quality + 0.001 * rng.normal(size=20)
        for value in ("cv", "knn"):
            labels[name, "eyes", 50, value] = (quality if informative else 0.6) + 0.001 * rng.normal(size=20)
    return Evidence(
        runs=runs,
        fractions=(1.0,),
        scores={},
        training={},
        outcomes={},
        draws={},
        datasets=("eyes",),
        scales={},
        labels=labels,
    )


def test_ranks_and_regret_are_those_of_scipy_and_of_the_pick() -> None:
    good, null = (Spread.of(_evidence(informative), 0) for informative in (True, False))

    found = label_tables.ranked(good, "cv", "eyes", 50)
    unrelated = label_tables.ranked(null, "cv", "eyes", 50)

    assert found is not None
    assert unrelated is not None
    assert found.correlation > 0.95
    assert found.regret < 0.005
    assert abs(unrelated.correlation) < 0.2
    assert few_labels(good)["images"] == 50
    assert few_labels(good)["spearman"]["eyes"] > 0.95
    assert unrelated.regret > 0.02
    # Draw 0 by hand: seeds differ by 0.2, which is no merit of the scales.
    runs = good.runs
    columns = {}
    for value in ("cv", "others"):
        column = np.array([good.evidence.labels[run.run, "eyes", 50, value][0] for run in runs])
        for seed in (0, 1):
            of_seed = np.array([run.seed == seed for run in runs])
            column[of_seed] -= column[of_seed].mean()
        columns[value] = column
    one = {key: values[:1] for key, values in good.evidence.labels.items()}
    good.evidence.labels.update(one)
    first = label_tables.ranked(good, "cv", "eyes", 50)
    assert first is not None
    assert first.correlation == pytest.approx(stats.spearmanr(columns["cv"], columns["others"]).statistic)
    assert "+.9" in label_tables.section(good)


def test_what_is_a_networks_own_chance_does_not_rank_the_other_seeds_runs() -> None:
    """Scores follow outcomes that are drawn for each run, so two seeds share nothing."""
    evidence, rng = _evidence(informative=True), np.random.default_rng(3)
    for run in evidence.runs:
        quality = rng.normal()
        for value in ("cv", "knn", "others"):
            evidence.labels[run, "eyes", 50, value] = quality + 0.001 * rng.normal(size=20)
    chance, shared = Spread.of(evidence, 0), Spread.of(_evidence(informative=True), 0)

    same, other = (label_tables.ranked(chance, "cv", "eyes", 50, other_seed=flag) for flag in (False, True))
    repeated = label_tables.ranked(shared, "cv", "eyes", 50, other_seed=True)

    assert same is not None
    assert other is not None
    assert repeated is not None
    assert same.correlation > 0.95
    assert abs(other.correlation) < 0.6
    assert other.regret > same.regret
    assert repeated.correlation > 0.95
