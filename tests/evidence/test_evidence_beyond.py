"""What a score says beyond crop size: partial rank correlations against the textbook's, and their null."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_results import write_results
from scipy import stats

from augscale.augmentation.scales import AugmentationScales
from augscale.config import load_study
from benchmarks.evidence.beyond import (
    CROP_AREA,
    DEFAULT,
    differences_section,
    later_section,
    partial_correlation,
    section,
    shuffled,
)
from benchmarks.evidence.collect import collect
from benchmarks.evidence.correlations import Spread
from benchmarks.evidence.plan import PlannedRun, full_plan, pretrained_plan
from benchmarks.evidence.records import MEAN, Score, read_evidence

LIDAR = Score(metric="lidar")
SCALES = {run.name: run.scales for run in full_plan(load_study("evidence").space)}


def crop_size(scales: AugmentationScales | None) -> float:
    return 0.0 if scales is None else sum(scales.global_crops_scale) / 2


def noise(run: PlannedRun, what: str) -> float:
    return float(np.random.default_rng([*run.run_id.encode(), *what.encode()]).normal())


def score(run: PlannedRun, fraction: float, level: str, metric: str) -> float:
    """Pair AUROC repeats the size of crops; LiDAR says what accuracy has beside it; the others nothing."""
    if metric == "pair_auroc":
        return crop_size(run.scales) + 0.02 * noise(run, "pair")
    return noise(run, "beside") if metric == "lidar" else noise(run, metric)


def outcome(run: PlannedRun, dataset: str, protocol: str) -> float:
    return 0.7 + 0.1 * crop_size(run.scales) + 0.03 * noise(run, "beside") + 0.02 * noise(run, dataset + protocol)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Spread:
    base = tmp_path_factory.mktemp("beyond")
    write_results(base / "out", score, outcome)
    collect(base / "out", base / "csv")
    return Spread.of(read_evidence(base / "csv"), 200)


def residual_ranks(values: np.ndarray, held: list[np.ndarray]) -> np.ndarray:
    """What is left of ranks after a least-squares fit on the ranks held fixed."""
    fixed = np.stack([np.ones(len(values)), *map(stats.rankdata, held)], axis=1)
    ranks = stats.rankdata(values)
    return ranks - fixed @ np.linalg.lstsq(fixed, ranks, rcond=None)[0]


@pytest.mark.parametrize("held", [(CROP_AREA,), (CROP_AREA, Score(metric="gap"))])
def test_partial_correlation_is_that_of_residual_ranks(spread: Spread, held: tuple[Score, ...]) -> None:
    values = spread.evidence.score(spread.runs, LIDAR)
    columns = [spread.evidence.score(spread.runs, one) for one in held]
    accuracy = spread.evidence.auroc(spread.runs, MEAN, "cv")

    found = partial_correlation(spread, values, columns, MEAN)

    expected = np.corrcoef(residual_ranks(values, columns), residual_ranks(accuracy, columns))[0, 1]
    assert found is not None
    assert found[0] == pytest.approx(expected, abs=1e-9)
    assert found[1] is not None
    assert found[1][0] < found[0] < found[1][1]


def test_what_repeats_crop_size_says_nothing_beyond_it_and_what_adds_to_it_does(spread: Spread) -> None:
    crops = [spread.evidence.score(spread.runs, CROP_AREA)]
    repeats, adds = (
        partial_correlation(spread, spread.evidence.score(spread.runs, one), crops, MEAN) for one in (DEFAULT, LIDAR)
    )

    assert spread.of_score(DEFAULT, MEAN).value > 0.3  # type: ignore[operator]
    assert repeats is not None
    assert repeats[1][0] < 0 < repeats[1][1]  # type: ignore[index]
    assert adds is not None
    assert adds[1][0] > 0.3  # type: ignore[index]


def test_a_score_determined_by_what_is_held_fixed_has_no_partial_correlation(spread: Spread) -> None:
    crops = spread.evidence.score(spread.runs, CROP_AREA)

    assert partial_correlation(spread, 2 * crops + 1, [crops], MEAN) is None
    assert partial_correlation(spread, np.ones_like(crops), [crops], MEAN) is None


def test_runs_without_a_score_are_left_out(spread: Spread) -> None:
    values, crops = (spread.evidence.score(spread.runs, one) for one in (LIDAR, CROP_AREA))
    values[:6] = np.nan
    fewer = Spread(evidence=spread.evidence, runs=spread.runs[6:], bootstrap=200)

    assert partial_correlation(spread, values, [crops], MEAN) == partial_correlation(
        fewer, values[6:], [crops[6:]], MEAN
    )


def test_shuffling_exchanges_whole_scales_in_the_same_way_in_all_seeds(spread: Spread) -> None:
    own = np.array([100.0 * list(SCALES).index(run.name) + run.seed for run in spread.runs])

    found = shuffled(spread, own, np.random.default_rng(0))

    assert sorted(found) == sorted(own)
    assert not np.array_equal(found, own)
    assert [value % 100 for value in found] == [run.seed for run in spread.runs]
    taken: dict[str, set[float]] = {}
    for run, value in zip(spread.runs, found, strict=True):
        taken.setdefault(run.name, set()).add(value // 100)
    assert all(len(others) == 1 for others in taken.values())


def test_section_shows_the_null_beside_the_scores(spread: Spread) -> None:
    text = section(spread)

    rows = [line for line in text.splitlines() if line.startswith("| shuffled | within .")]
    assert len(rows) == len(spread.datasets)
    assert "| pair_auroc | +" in text
    assert "crop size" in text


def test_what_repeats_crop_size_is_compared_with_smaller_crops(spread: Spread) -> None:
    row = next(line for line in differences_section(spread).splitlines() if line.startswith("| smaller global crops"))
    larger = spread.within().of_score(CROP_AREA, MEAN).value
    repeats = spread.within().of_score(DEFAULT, MEAN).value

    assert row.split("|")[-2].startswith(f" +{repeats + larger:.2f}".replace("+0.", "+."))


def test_later_scales_are_those_of_the_second_half_and_stand_beside_the_first(spread: Spread, tmp_path: Path) -> None:
    assert later_section(spread) == "", "the study from random weights was not run in halves"
    write_results(tmp_path / "out", score, outcome, pretrained_plan(load_study("evidence").space))
    collect(tmp_path / "out", tmp_path / "csv")
    halves = Spread.of(read_evidence(tmp_path / "csv"), 0)
    later = [run for run in halves.runs if run.name.startswith("sobol-") and run.name >= "sobol-12"]
    expected = replace(halves, runs=later).within().of_score(LIDAR, MEAN).value

    text = later_section(halves)

    assert "over the 16 scales" in text
    assert "over the 12 that" in text
    row = next(line for line in text.splitlines() if line.startswith("| lidar, later"))
    assert row.split("|")[-2].strip() == f"{expected:+.2f}".replace("0.", ".")


@pytest.mark.parametrize("count", [1, 4, 5])
def test_few_scales_give_tables_without_intervals_instead_of_an_error(spread: Spread, count: int) -> None:
    """As a study on a GPU for ten minutes leaves them: the controls and little else."""
    runs = [run for run in spread.runs if run.seed == 0][:count]
    few = Spread(evidence=spread.evidence, runs=runs, bootstrap=20)

    assert section(few).startswith("## 16.")
    assert differences_section(few).startswith("## 17.")
