"""Studies side by side: what was put into each is found in its own row, and in no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_results import write_results
from scipy import stats

from augscale.config import load_study
from augscale.errors import DataError
from benchmarks.evidence.collect import collect
from benchmarks.evidence.plan import PlannedRun, methods_plan, pretrained_plan
from benchmarks.evidence.records import MEAN
from benchmarks.evidence.regimes import CROPS, JITTER, Regime, datasets_of, read_regimes, write_regimes

SIMCLR = '[pretrain]\nmethod = "simclr"\n[crops]\nn_local = 0\n'


def quality(run: PlannedRun) -> float:
    assert run.scales is not None
    return run.scales.brightness * run.scales.jitter_p


def score(run: PlannedRun, fraction: float, level: str, metric: str) -> float:
    return -quality(run) if run.kind == "run" else 0.0


def outcome(run: PlannedRun, dataset: str, protocol: str) -> float:
    """Jitter helps and the made score is against it; the network before training of seed 1 is better than seed 0's."""
    start = 0.6 + 0.1 * run.seed
    return start if run.scales is None or run.kind != "run" else start + 0.05 + 0.01 * quality(run)


def against(run: PlannedRun, dataset: str, protocol: str) -> float:
    """Seeds disagree: what jitter adds with seed 0, it takes with seed 1."""
    if run.scales is None or run.kind != "run":
        return 0.6
    return 0.7 + (0.01 if run.seed == 0 else -0.01) * quality(run)


def _planned(regime: Regime) -> list[PlannedRun]:
    """The runs of the regime as they were planned, in its order."""
    plan = {run.run_id: run for run in pretrained_plan(load_study("evidence").space)}
    return [plan[run.run] for run in regime.spread.runs]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    space = load_study("evidence").space
    write_results(tmp_path / "a", score, outcome, pretrained_plan(space))
    collect(tmp_path / "a", tmp_path / "csv")
    write_results(tmp_path / "b", score, against, methods_plan(space), 'name = "b"\n' + SIMCLR)
    collect(tmp_path / "b", tmp_path / "csv" / "methods" / "simclr")
    return tmp_path / "csv"


def test_a_regime_is_read_from_its_own_folder(folder: Path) -> None:
    dino, simclr = read_regimes(folder, 50)

    assert (dino.name, simclr.name) == ("DINO, random weights", "SimCLR, random weights")
    assert datasets_of([dino, simclr]) == ["aptos2019", "odir3", MEAN]
    assert len(set(dino.spread.names)) == 28
    assert len(set(simclr.spread.names)) == 12
    gain = dino.gain("odir3")
    assert gain is not None
    assert 0.05 < gain.mean < 0.06, "over the start of the same seed"
    agreement, other = dino.agreement(MEAN), simclr.agreement(MEAN)
    assert agreement is not None
    assert other is not None
    assert agreement.value == pytest.approx(1)
    assert other.value == pytest.approx(-1)
    assert dino.score(JITTER, MEAN).value == pytest.approx(1)
    planned = _planned(dino)
    expected = stats.spearmanr([sum(run.scales.global_crops_scale) for run in planned], [*map(quality, planned)])
    assert dino.score(CROPS, MEAN).value == pytest.approx(expected.statistic, abs=1e-6), "larger crops, not smaller"


def test_the_files_are_the_same_for_the_same_tables(folder: Path) -> None:
    paths = write_regimes(folder, 20)
    before = [path.read_bytes() for path in paths]
    assert [path.name for path in paths] == ["regimes.md", "regimes.svg"]
    assert [path.read_bytes() for path in write_regimes(folder, 20)] == before
    text = paths[0].read_text()
    assert "## mean of real" in text
    assert "| SimCLR, random weights |" in text


def test_one_regime_is_no_comparison(folder: Path) -> None:
    shutil.rmtree(folder / "methods")
    with pytest.raises(DataError, match="number of regimes with 8 scales or more: 1; expected two or more"):
        read_regimes(folder, 20)
