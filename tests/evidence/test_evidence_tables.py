"""From made results to CSVs to tables: known correlations, noise, differences and regrets are found again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_results import DATASETS, write_results
from scipy import stats

from augscale.config import load_study
from augscale.errors import DataError
from augscale.searching.trust import regime_of
from benchmarks.evidence import prior
from benchmarks.evidence.collect import collect, complete_runs
from benchmarks.evidence.correlations import Spread, leave_one_out, paired_difference, seed_noise
from benchmarks.evidence.document import write_document
from benchmarks.evidence.plan import PlannedRun
from benchmarks.evidence.question import holm, paired, student
from benchmarks.evidence.records import MEAN, Evidence, Score, read_evidence
from benchmarks.evidence.settings import load_settings
from benchmarks.evidence.trust import PROTOCOL, TRUST_FILE, write_trust

GOOD, BAD, DOWN = Score(metric="pair_auroc"), Score(metric="dprime", level="own"), Score(metric="alignment")


def quality(run: PlannedRun) -> float:
    """Rises along the Sobol numbers; controls in between; a little more with the seed."""
    other = {"none": 2.5, "weak": 20.5, "strong": 12.5}.get(run.name, 6.5)
    rank = float(run.name[-2:]) if run.name.startswith("sobol") else other
    return rank + 0.1 * run.seed


def score(run: PlannedRun, fraction: float, level: str, metric: str) -> float:
    """The panel ranks as accuracy does, at the end only; own views the other way round; low alignment is good."""
    if run.kind != "run":
        return 0.0
    value = quality(run)
    if metric == "alignment" or level == "own":
        return -value
    return value if fraction == 1.0 else (7 * value) % 5


def outcome(run: PlannedRun, dataset: str, protocol: str) -> float:
    if run.kind != "run":
        return 0.6
    return 0.7 + 0.002 * quality(run) + 0.01 * DATASETS.index(dataset)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("evidence")
    write_results(base / "out", score, outcome)
    collect(base / "out", base / "csv")
    return base / "csv"


@pytest.fixture(scope="module")
def evidence(folder: Path) -> Evidence:
    return read_evidence(folder)


def test_csvs_hold_what_was_measured(evidence: Evidence) -> None:
    runs = evidence.of_part("spread")

    assert len(runs) == 56
    assert evidence.fractions == (0.5, 1.0)
    assert evidence.real_datasets == ("aptos2019", "odir3")
    expected = [-quality(PlannedRun(name=run.name, seed=run.seed)) for run in runs]
    np.testing.assert_allclose(evidence.score(runs, BAD), expected, rtol=1e-5)
    assert evidence.auroc_draws(runs, MEAN, "cv").shape == (20, 56)  # type: ignore[union-attr]


def test_correlations_have_the_sign_and_size_that_was_put_in(evidence: Evidence) -> None:
    spread = Spread.of(evidence, 50)

    assert spread.of_score(GOOD, "aptos2019").value == pytest.approx(1.0)
    assert spread.of_score(BAD, "odir3").value == pytest.approx(-1.0)
    assert spread.of_score(DOWN, MEAN).value == pytest.approx(1.0)
    early = spread.of_score(GOOD, MEAN, fraction=0.5).value
    runs = spread.runs
    expected = stats.spearmanr(evidence.score(runs, GOOD, 0.5), evidence.auroc(runs, MEAN, "cv")).statistic
    assert early == pytest.approx(expected)
    assert abs(expected) < 0.9


def test_differences_of_correlations_are_over_the_same_resamples(evidence: Evidence) -> None:
    spread = Spread.of(evidence, 50)
    good, bad = spread.of_score(GOOD, MEAN), spread.of_score(BAD, MEAN)

    found = paired_difference(good, bad)

    assert found is not None
    assert found[0] == pytest.approx(2.0)
    assert found[1] == pytest.approx((2.0, 2.0))
    assert paired_difference(good, good) == (0.0, (0.0, 0.0))
    assert paired_difference(good, spread.of_score(Score(metric="nothing"), MEAN)) is None


def test_leave_one_out_takes_what_is_best_elsewhere(evidence: Evidence) -> None:
    found = leave_one_out(Spread.of(evidence, 20))

    assert [one.dataset for one in found] == ["aptos2019", "odir3"]
    assert all(one.elsewhere == pytest.approx(1.0) and one.here.value == pytest.approx(1.0) for one in found)


def test_regret_of_a_perfect_and_of_a_perverse_score(evidence: Evidence) -> None:
    spread = Spread.of(evidence, 50)
    best, worst = (spread.regret(evidence.score(spread.runs, one), "odir3") for one in (GOOD, BAD))

    assert best.pick == "sobol-23"
    assert best.regret == pytest.approx(0.0)
    assert worst.pick == "sobol-00"
    assert worst.regret == pytest.approx(0.002 * 23)
    gains = {alternative.name: alternative.gain for alternative in best.alternatives}
    assert gains["strong"] == pytest.approx(0.002 * (23 - 12.5))


def test_differences_are_taken_seed_by_seed(evidence: Evidence) -> None:
    found = paired(evidence, "weak", "strong", "aptos2019", "released")

    assert found is not None
    assert found.n == 5
    assert found.mean == pytest.approx(0.002 * 8)
    assert found.interval == pytest.approx((0.016, 0.016))


def test_student_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, size=6)
    found = student(values)
    expected = stats.ttest_1samp(values, 0.0)

    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert student([1.0, np.nan]) is not None
    assert student([1.0, np.nan]).interval is None  # type: ignore[union-attr]


def test_holm_is_the_step_down_method() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])


def test_seed_noise_splits_the_variance() -> None:
    rng = np.random.default_rng(1)
    scales, seeds = np.repeat(np.arange(400), 3), np.tile(np.arange(3), 400)
    values = rng.normal(0, 2, size=400)[scales] + np.array([0.0, 10.0, 20.0])[seeds] + rng.normal(0, 1, size=1200)

    noise = seed_noise(values, scales, seeds)

    assert noise is not None
    assert noise.scales == pytest.approx(2, rel=0.1)
    assert noise.residual == pytest.approx(1, rel=0.1)
    # What all scales of a seed share moves no ranks and is not noise of the scales.
    assert noise.seeds == pytest.approx(10, rel=0.02)
    assert noise.reliability == pytest.approx(0.8, abs=0.04)
    table = values.reshape(400, 3)
    assert noise.agreement.value == pytest.approx(stats.spearmanr(table[:, 0], table[:, 1]).statistic)


def test_seed_noise_of_equal_scales_is_noise_alone() -> None:
    """The null: without an effect of scales reliability and agreement are about 0."""
    rng = np.random.default_rng(2)
    scales, seeds = np.repeat(np.arange(400), 2), np.tile(np.arange(2), 400)

    noise = seed_noise(rng.normal(size=800) + 5.0 * seeds, scales, seeds)

    assert noise is not None
    assert noise.reliability == pytest.approx(0, abs=0.1)
    assert noise.agreement.value == pytest.approx(0, abs=0.1)


def test_seed_noise_takes_complete_scales_only() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0, np.nan])
    scales, seeds = np.repeat(np.arange(4), 2), np.tile(np.arange(2), 4)

    assert seed_noise(values, scales, seeds) == seed_noise(values[:6], scales[:6], seeds[:6])
    assert seed_noise(values[:4], scales[:4], seeds[:4]) is None
    assert seed_noise(values[::2], scales[::2], seeds[::2]) is None


def test_document_is_the_same_bytes_twice_and_names_every_table(folder: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_document(folder, bootstrap=30)}
    second = {path.name: path.read_bytes() for path in write_document(folder, bootstrap=30)}

    assert first == second
    text = first["tables.md"].decode()
    assert [number for number in range(1, 12) if f"\n## {number}. " in text] == list(range(1, 12))
    assert {"score-against-accuracy.svg", "question.svg", "one-at-a-time.svg"} <= set(first)
    assert "nan" not in text


def test_a_study_that_was_stopped_early_still_gives_tables(folder: Path, tmp_path: Path) -> None:
    write_results(tmp_path / "out", score, outcome)
    for file in (tmp_path / "out" / "results").glob("*.json"):
        if not file.name.endswith("-s0.json"):
            file.unlink()
    collect(tmp_path / "out", tmp_path / "csv")

    paths = write_document(tmp_path / "csv", bootstrap=20)

    assert "SD seeds" in paths[0].read_text()


def test_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"runs\.csv: cannot be read"):
        read_evidence(tmp_path)
    (tmp_path / "runs.csv").write_text("run,name\n")
    with pytest.raises(DataError, match=r"runs\.csv: no column kind, seed"):
        read_evidence(tmp_path)


def test_collect_without_results_says_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result"):
        collect(tmp_path, tmp_path / "csv")


def test_what_the_program_says_of_its_score_is_what_was_measured(evidence: Evidence, tmp_path: Path) -> None:
    """On the made results, where accuracy follows the score exactly."""
    spread = Spread.of(evidence, 200)
    file = tmp_path / "trust.json"
    longer = load_study("evidence", {"pretrain.steps": 999})
    for study in (load_study("evidence"), longer, load_study("evidence")):
        write_trust(spread, study, load_settings(None), file)
    other, said = json.loads(file.read_text("utf-8"))["regimes"]
    assert (other["images"], said["images"]) == (999 * longer.pretrain.batch_size, 15360)
    assert (said["init"], said["network"], said["size"]) == ("none", "resnet10t", 64)
    assert said["statistics"] == "common"
    assert said["runs"] == len(spread.runs)
    for dataset in evidence.real_datasets:
        values = evidence.score(spread.runs, GOOD), evidence.auroc(spread.runs, dataset, "linear")
        expected = stats.spearmanr(*values).statistic
        assert said["spearman"]["pair_auroc"][dataset]["value"] == pytest.approx(expected, abs=0.006)


def test_the_program_says_what_the_committed_study_found() -> None:
    folder = Path(__file__).parents[2] / "docs" / "evidence"
    regime = regime_of(load_study(str(folder / "study.toml")))
    rows = json.loads(TRUST_FILE.read_text("utf-8"))["regimes"]
    (committed,) = (row for row in rows if row.items() >= regime.items())
    spread = Spread.of(read_evidence(folder), 0)
    assert (committed["runs"], committed["scales"]) == (len(spread.runs), len(set(spread.names)))
    for score, by_dataset in committed["spearman"].items():
        assert list(by_dataset) == list(spread.evidence.real_datasets)
        for dataset, values in by_dataset.items():
            found = spread.within().of_score(Score(metric=score), dataset, PROTOCOL).value
            assert values["value"] == pytest.approx(found, abs=0.006)
            assert values["interval"][0] <= values["value"] <= values["interval"][1]
    (crops,) = committed["panels"].values()
    values = np.mean(
        [spread.evidence.score(spread.runs, Score(metric="dprime", level=f"crops{t}")) for t in ("@0.5", "")], 0
    )
    for dataset, found in crops["dprime"].items():
        assert found["value"] == pytest.approx(spread.within().correlation(values, dataset, PROTOCOL).value, abs=0.006)


def test_a_study_goes_on_from_its_csvs_alone(folder: Path, tmp_path: Path) -> None:
    plan = write_results(tmp_path / "out", score, outcome)
    late = {f"{run.run_id}.json" for run in plan if run.seed > 0}
    results, set_aside = tmp_path / "out" / "results", tmp_path / "late"
    set_aside.mkdir()
    for name in late:
        (results / name).rename(set_aside / name)
    collect(tmp_path / "out", tmp_path / "csv")
    assert complete_runs(tmp_path / "csv") == {run.run_id for run in plan if run.seed == 0}

    for file in results.iterdir():
        file.unlink()
    for name in late:
        (set_aside / name).rename(results / name)
    collect(tmp_path / "out", tmp_path / "csv")
    for name in ("runs.csv", "scores.csv", "outcomes.csv", "baselines.csv", "draws.csv"):
        assert (tmp_path / "csv" / name).read_text() == (folder / name).read_text(), name


def test_csvs_of_other_settings_are_not_added_to(tmp_path: Path) -> None:
    write_results(tmp_path / "out", score, outcome)
    collect(tmp_path / "out", tmp_path / "csv")
    before = (tmp_path / "csv" / "runs.csv").read_text()
    (tmp_path / "out" / "measure.toml").write_text("repeats = 3\nview_size = 64\n")  # defaults, spelt out
    collect(tmp_path / "out", tmp_path / "csv")
    (tmp_path / "out" / "measure.toml").write_text("repeats = 2\n")
    with pytest.raises(DataError, match=r"measure\.toml: other settings"):
        collect(tmp_path / "out", tmp_path / "csv")
    assert (tmp_path / "csv" / "runs.csv").read_text() == before


def test_what_two_seeds_differ_by_blurs_runs_pooled_and_not_those_within_a_seed(tmp_path: Path) -> None:
    def shifted(run: PlannedRun, fraction: float, level: str, metric: str) -> float:
        return score(run, fraction, level, metric) - 100 * run.seed

    def raised(run: PlannedRun, dataset: str, protocol: str) -> float:
        return outcome(run, dataset, protocol) + (0.1 * run.seed if run.kind == "run" else 0)

    write_results(tmp_path / "out", shifted, raised)
    collect(tmp_path / "out", tmp_path / "csv")
    spread = Spread.of(read_evidence(tmp_path / "csv"), 50)
    pooled, within = (part.of_score(GOOD, "odir3") for part in (spread, spread.within()))
    assert pooled.value is not None
    assert pooled.value < 0.3
    assert within.value == pytest.approx(1.0, abs=1e-3)
    assert within.interval is not None
    assert within.interval[0] > 0.95
    one_seed = spread.of_seed(1)
    assert {run.seed for run in one_seed.runs} == {1}
    assert one_seed.of_score(GOOD, "odir3").value == pytest.approx(1.0)
    assert len(spread.of_seed(1, unseen=True).runs) == 23


def test_a_ranking_that_belongs_to_one_seed_is_not_found_from_the_other(tmp_path: Path) -> None:
    def of_jitter(run: PlannedRun, dataset: str, protocol: str) -> float:
        strength = run.scales.brightness * run.scales.jitter_p if run.scales else 0.0
        return 0.7 + (0.1 * strength if run.seed == 0 or protocol == "knn" else -0.1 * strength)

    write_results(tmp_path / "out", score, of_jitter)
    collect(tmp_path / "out", tmp_path / "csv")
    text = prior.section(Spread.of(read_evidence(tmp_path / "csv"), 20))
    cv, knn = text.split("Protocol ")[1:]
    found = [
        float(line.split("|")[2].split()[0])
        for table in (cv, knn)
        for line in table.splitlines()
        if "seed 0 alone" in line or "seed 1 alone" in line
    ]
    assert found[0] > 0.8
    assert found[1] < -0.8
    assert min(found[2:]) > 0.8
