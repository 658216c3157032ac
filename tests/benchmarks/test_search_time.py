"""Where a search's time went: a run folder with known seconds, and tables whose rows add up to the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from scipy import stats

from augscale.config import load_study
from augscale.errors import ConfigError
from augscale.runs.folders import RunFolder
from benchmarks.pruning import compare_answers, pruning
from benchmarks.run_times import read_run_times
from benchmarks.search_time import report

STEPS = 40
"""Rungs at 10, 20 and 40."""
EVENTS: list[tuple[float, str, dict[str, Any]]] = [
    (5.0, "search started", {"device": "cpu (2 workers, 1 thread each)", "workers": 2, "preparation_seconds": 5.0}),
    (5.5, "worker started", {"pid": 1}),
    (6.0, "worker started", {"pid": 2}),
    (9.5, "worker ready", {"pid": 1}),
    (10.5, "worker ready", {"pid": 2}),
    (70.0, "worker done", {"pid": 1, "seconds": {"claiming": 1.0, "telling": 2.0, "trials": 57.0, "other": 0.5}}),
    (71.0, "worker done", {"pid": 2, "seconds": {"claiming": 1.0, "waiting": 3.0, "untrained": 1.5}}),
    (72.0, "workers ended", {}),
    (76.0, "search finished", {"best": "weak"}),
]
WALL = 5.0 + 76.0 - 5.0


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return _write(tmp_path / "run")


def _write(folder: Path, *, prune: bool = True, events=EVENTS, scores=(1.0, 1.2, 1.3), **settings: Any) -> RunFolder:
    """Three trials, of which the last is pruned at its first rung where there is pruning, and three confirmations."""
    run = RunFolder(folder)
    run.create()
    config = load_study("smoke", {"pretrain.steps": STEPS, "search.prune": prune, "confirm.seeds": 3} | settings)
    run.study_file.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    _put(run.manifest_file, {"device": "cpu", "versions": {"torch": "2"}, "data": {"fingerprint": "abc"}})
    for number in range(3):
        pruned = prune and number == 2
        _put(run.trial_dir(number) / "trial.json", _record(1 if pruned else 3, "PRUNED" if pruned else "COMPLETE"))
    for index, score in enumerate(scores):
        confirmed = {"name": "weak", "seed_index": index, "final": {"score": score, "bootstrap_scores": []}}
        _put(run.confirm_dir / f"trial-0001-seed{index}" / "trial.json", _record(3, "COMPLETE") | confirmed)
    _put(run.answer_file, {"best": "weak"})
    _log(run, events)
    return run


def _record(rungs: int, state: str) -> dict[str, Any]:
    """A second per four steps (views 1, forward 2, backward 3, optimiser 4 parts of ten), 0.4 s per scoring."""
    steps = (10, 20, 40)[:rungs]
    training = {"views": 0.1, "forward": 0.2, "backward": 0.3, "optimiser": 0.4}
    parts = {name: share * steps[-1] / 4 for name, share in training.items()}
    parts |= {"rungs": 0.5 * rungs, "state": 0.25}
    return {
        "state": state,
        "rungs": [{"step": step, "seconds": 0.4} for step in steps],
        "seconds": sum(parts.values()) + 0.35,
        "seconds_by_part": parts,
    }


def _put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _log(run: RunFolder, events: list[tuple[float, str, dict[str, Any]]]) -> None:
    lines = [
        json.dumps({"time": f"2026-11-24T10:{int(at // 60):02d}:{at % 60:06.3f}+00:00", "event": event} | fields)
        for at, event, fields in events
    ]
    (run.path / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_rows_are_the_seconds_that_were_put_in_and_add_up_to_wall_time_times_workers(run):
    times = read_run_times(run)
    assert times.wall_seconds == pytest.approx(WALL)
    assert times.worker_seconds == pytest.approx(2 * WALL)
    # Steps 40, 40 and 10 in the search, 3 x 40 in the confirmation; 7 and 9 rungs.
    assert times.search == pytest.approx(
        {"views": 2.25, "forward": 4.5, "backward": 6.75, "optimiser": 9.0, "scoring": 2.8, "reporting": 0.7}
        | {"state": 0.75, "set-up and rest": 1.05}
    )
    assert times.confirm["scoring"] == pytest.approx(3.6)
    assert times.training_seconds == pytest.approx(22.5 + 30.0)
    assert times.outside == pytest.approx(
        {
            "preparation": 2 * 5.0 + 0.5 + 1.0,
            "start of workers": 4.0 + 4.5,
            "claiming: Optuna, storage": 2.0,
            "telling, saving weights": 2.0,
            "other": 0.5,
            "waiting for other workers": 3.0,
            "scoring untrained networks": 1.5,
            "end of workers": 2.0 + 1.0,
            "answer and report": 2 * 4.0,
            "not recorded": times.outside["not recorded"],
        }
    )
    assert times.trials_seconds + times.outside_seconds == pytest.approx(2 * WALL)


def test_pruning_saved_the_steps_and_rungs_that_were_not_run_at_the_runs_own_price(run):
    saved = pruning(run, read_run_times(run))
    assert (saved.pruned, saved.trials, saved.steps_planned) == (1, 3, 3 * STEPS)
    assert (saved.steps_not_run, saved.rungs_not_scored) == (30, 2)
    assert saved.worker_seconds == pytest.approx(30 / 4 + 2 * 0.4)


def test_a_run_from_before_these_clocks_is_read_and_what_it_does_not_say_is_called_so(run):
    _log(run, [(5.0, "search started", {"device": "cpu (2 workers, 1 thread each)"}), (76.0, "search finished", {})])
    record = json.loads((run.trial_dir(2) / "trial.json").read_text())
    _put(run.trial_dir(2) / "trial.json", record | {"seconds_by_part": {}, "rungs": [{"step": 10}]})
    times = read_run_times(run)
    assert times.workers == 2
    assert times.search["not split"] == pytest.approx(record["seconds"])
    assert set(times.outside) == {"not recorded"}
    assert times.trials_seconds + times.outside_seconds == pytest.approx(times.worker_seconds)


def test_the_pause_between_two_commands_on_one_run_is_not_counted(run):
    first = [(at, event, fields) for at, event, fields in EVENTS if event != "search finished"]
    again = [(at + 1000, event, fields) for at, event, fields in EVENTS]
    _log(run, [*first, *again])
    times = read_run_times(run)
    assert times.sessions == 2
    assert times.wall_seconds == pytest.approx(WALL - 4.0 + WALL)
    assert times.outside["claiming: Optuna, storage"] == pytest.approx(4.0)


def test_two_answers_are_compared_seed_by_seed(tmp_path, run):
    other = _write(tmp_path / "other", prune=False, scores=(0.95, 1.19, 1.22))
    answers = compare_answers(run, other)
    reference = stats.ttest_rel([1.0, 1.2, 1.3], [0.95, 1.19, 1.22])
    assert answers.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert answers.distinguishable == (reference.pvalue < 0.05)
    assert answers.first.score == pytest.approx(3.5 / 3)
    text = "\n".join(report([run, other]))
    assert "1 of 3 trials: 30 of 120 steps not run (25 %)" in text
    assert "no trial was pruned" in text
    assert "not distinguishable" in text


def test_studies_that_differ_in_more_than_pruning_are_not_compared(tmp_path, run):
    other = _write(tmp_path / "other", prune=False, **{"pretrain.lr": 0.5})
    with pytest.raises(ConfigError, match=r"pretrain\.lr differ"):
        compare_answers(run, other)


def test_an_unfinished_search_and_a_folder_that_is_none_are_refused(tmp_path, run):
    _log(run, EVENTS[:-1])
    with pytest.raises(ConfigError, match="no finished search"):
        read_run_times(run)
    with pytest.raises(ConfigError, match="not a run folder"):
        read_run_times(RunFolder(tmp_path))
