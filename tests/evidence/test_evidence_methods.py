"""From made results of several methods to tables: agreements, gains and differences put in are found again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_results import write_results
from scipy import stats

from augscale.config import load_study
from augscale.errors import DataError
from benchmarks.evidence.collect import collect
from benchmarks.evidence.method_tables import write_methods
from benchmarks.evidence.methods import (
    Methods,
    accuracy,
    agreement,
    between_seeds,
    learned,
    of_other,
    panel,
    permutation_p,
    read_methods,
    shuffled_correlations,
    weighed_minus_plain,
)
from benchmarks.evidence.plan import CONTROLS, PlannedRun, methods_plan
from benchmarks.evidence.records import MEAN, Score
from benchmarks.evidence.trust import write_method_rows

CV = accuracy("odir3", "cv")
SCORE = Score(metric="pair_auroc")
STUDIES = {
    "dino": 'name = "made"\n',
    "simclr": 'name = "other"\n[pretrain]\nmethod = "simclr"\n[crops]\nn_local = 0\n',
    "mocov3": 'name = "third"\n[pretrain]\nmethod = "mocov3"\n[crops]\nn_local = 0\n',
}
NAMES = (*CONTROLS, *(f"sobol-{number:02d}" for number in range(8)))
RANK = np.arange(len(NAMES))
Write = Callable[..., Path]


def quality(run: PlannedRun) -> float:
    """0 to 11 along the scales, the same for weighed and plain pairs."""
    return float(NAMES.index(run.name.removeprefix("hard-")))


def score(run: PlannedRun, fraction: float, level: str, metric: str) -> float:
    return quality(run) / 20 if run.kind == "run" else 0.0


def outcome(run: PlannedRun, dataset: str, protocol: str) -> float:
    """Untrained .6; plain .7 and more; weighed pairs add .01 by `cv` and nothing else."""
    if run.kind != "run":
        return 0.6
    return 0.7 + 0.002 * quality(run) + (0.01 if run.parts == ("hard",) and protocol == "cv" else 0.0)


def against(run: PlannedRun, dataset: str, protocol: str) -> float:
    """SimCLR likes what DINO does not."""
    return 0.6 if run.kind != "run" else 0.8 - 0.002 * quality(run)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_method(method: str, outcome_of: Callable[..., float] = outcome, keep: object = lambda run: True) -> Path:
        plan = [run for run in methods_plan(load_study("evidence").space) if keep(run)]  # type: ignore[operator]
        write_results(tmp_path / f"out-{method}", score, outcome_of, plan, STUDIES[method])
        to = tmp_path / "csv" if method == "dino" else tmp_path / "csv" / "methods" / method
        collect(tmp_path / f"out-{method}", to)
        return tmp_path / "csv"

    return write_method


def _all(write: Write) -> Methods:
    write("dino")
    write("simclr", against)
    return read_methods(write("mocov3"), 50)


def test_equal_rankings_agree_and_opposite_ones_disagree(write: Write) -> None:
    methods = _all(write)

    assert list(methods.evidence) == ["dino", "mocov3", "simclr"]
    assert methods.scales == NAMES
    same, opposite = (agreement(methods, "dino", other, CV) for other in ("mocov3", "simclr"))
    assert (same.means.value, opposite.means.value) == (pytest.approx(1.0), pytest.approx(-1.0))
    assert same.means.interval == pytest.approx((1.0, 1.0))
    assert same.means.num_groups == 12
    assert (same.other_seed, same.ceiling) == (pytest.approx(1.0), pytest.approx(1.0))
    assert same.p == pytest.approx(1 / 5001)
    assert agreement(methods, "dino", "simclr", panel(SCORE)).means.value == pytest.approx(1.0)
    own = methods.spread("simclr").within()
    assert own.of_score(SCORE, MEAN).value == pytest.approx(-1.0)


def test_the_null_of_no_relation_is_around_zero() -> None:
    order = np.arange(12.0)
    shuffled = shuffled_correlations(order, order)

    assert abs(shuffled.mean()) < 0.02
    # The tabulated critical value of Spearman's correlation, n = 12, two-sided, 5 %.
    assert np.quantile(np.abs(shuffled), 0.95) == pytest.approx(0.587, abs=0.02)
    rng = np.random.default_rng(0)
    p_values = [permutation_p(rng.normal(size=12), rng.normal(size=12)) for _ in range(100)]
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)  # type: ignore[arg-type]
    assert np.mean(np.array(p_values) < 0.05) < 0.12
    x, y = rng.normal(size=(2, 12)) + order / 6
    assert permutation_p(x, y) == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)
    assert permutation_p(order, np.zeros(12)) is None


def test_the_ceiling_is_what_the_noise_of_seeds_leaves(write: Write) -> None:
    rng = np.random.default_rng(3)
    noise = {(name, seed): rng.normal() for name in NAMES for seed in range(3)}

    def noisy(run: PlannedRun, dataset: str, protocol: str) -> float:
        return against(run, dataset, protocol) + 0.003 * noise.get((run.name, run.seed), 0.0)

    write("dino")
    methods = read_methods(write("simclr", noisy), 0)
    first, second = methods.values("simclr", CV)
    within = stats.spearmanr(first, second).statistic
    found = agreement(methods, "dino", "simclr", CV)

    assert 0 < within < 0.95
    assert between_seeds(methods, "simclr", CV).value == pytest.approx(within)
    assert between_seeds(methods, "dino", CV).value == pytest.approx(1.0)
    assert found.ceiling == pytest.approx(math.sqrt(2 * within / (1 + within)))
    crossed = [stats.spearmanr(RANK, values).statistic for values in (first, second)]
    assert found.other_seed == pytest.approx(np.mean(crossed))
    assert found.means.value == pytest.approx(stats.spearmanr(RANK, (first + second) / 2).statistic)


def test_gains_and_weighed_differences_are_those_that_were_put_in(write: Write) -> None:
    methods = _all(write)

    gain, above = learned(methods, "dino", CV, CV)
    assert gain is not None
    assert gain.mean == pytest.approx(0.1 + 0.002 * 5.5)
    assert (gain.n, above) == (12, 1.0)
    for protocol, expected in (("cv", 0.01), ("knn", 0.0)):
        found = weighed_minus_plain(methods.evidence["dino"], CONTROLS, "odir3", protocol)
        assert found is not None
        assert (found.mean, found.n) == (pytest.approx(expected, abs=1e-9), 3)


def test_scales_of_a_method_that_likes_the_opposite_are_the_worst(write: Write) -> None:
    methods = _all(write)
    by_other = methods.values("simclr", accuracy(MEAN, "cv"))

    found = methods.spread("dino").regret(of_other(methods, "dino", by_other), MEAN)

    assert (found.pick, found.best) == ("none", "sobol-07")
    assert found.regret == pytest.approx(0.002 * 11)


def test_tables_name_what_is_missing_and_are_the_same_bytes_twice(write: Write) -> None:
    write("dino")
    folder = write("simclr", against, lambda run: run.seed == 0 and run.parts != ("hard",))

    first = write_methods(folder, bootstrap=20).read_bytes()
    text = first.decode()

    assert write_methods(folder, bootstrap=20).read_bytes() == first
    assert [number for number in range(6) if f"## {number}. " in text] == list(range(6))
    assert "**Incomplete.**" in text
    assert "- simclr: untrained-s1, none-s1, weak-s1" in text
    assert "- dino:" not in text
    assert "| dino with simclr | -1.00 [-1.00, -1.00]" in text
    assert "| dino: all | +.010" in text
    assert "| simclr: all | – |" in text
    assert "largest difference to the network before training is 0 AUROC" in text
    assert "nan" not in text


def test_complete_runs_are_not_called_incomplete(write: Write) -> None:
    write("dino")

    assert "Incomplete" not in write_methods(write("simclr"), bootstrap=0).read_text()


def test_what_cannot_be_compared_is_refused(write: Write) -> None:
    folder = write("dino")
    with pytest.raises(DataError, match="no runs of another method than dino"):
        read_methods(folder, 0)
    write("simclr")
    write("mocov3")
    study = folder / "methods" / "simclr" / "study.toml"
    text = study.read_text()
    study.write_text(text.replace("[crops]", "steps = 7\n[crops]"))
    with pytest.raises(DataError, match=r"pretrain\.steps differs"):
        read_methods(folder, 0)
    study.write_text(STUDIES["dino"])
    with pytest.raises(DataError, match="are in two folders of one method"):
        read_methods(folder, 0)
    study.write_text(text)
    (folder / "methods" / "simclr" / "measure.toml").write_text("repeats = 2\n")
    with pytest.raises(DataError, match="other settings"):
        read_methods(folder, 0)


def test_the_program_is_told_of_the_other_methods(write: Write, tmp_path: Path) -> None:
    _all(write)
    file = tmp_path / "trust.json"
    assert write_method_rows(tmp_path / "csv", 20, file) == file
    rows = json.loads(file.read_text())["regimes"]
    assert [row["method"] for row in rows] == ["mocov3", "simclr"]
    assert [row["spearman"]["pair_auroc"]["odir3"]["value"] for row in rows] == [1.0, -1.0]
    assert [row["scales"] for row in rows] == [len(NAMES)] * 2
