"""The command line from images to answer, with real worker processes; kills and signals included.

What is not about processes runs in this one: starting Python costs more than a search of this size.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from datetime import datetime
from pathlib import Path

import pytest
import tomli_w
from tiny_runs import searched
from typer.testing import CliRunner

from augscale.augmentation.scales import load_scales
from augscale.cli.app import app
from augscale.errors import AugscaleError, ConfigError, StudyError
from augscale.runs.files import read_json
from augscale.searching.read_run import status as read_status

LONG = (
    "--set",
    "pretrain.steps=100",
    "--set",
    "pretrain.checkpoint_seconds=5",
    "--set",
    "confirm.seeds=0",
    "--set",
    "search.null_trials=0",
)
"""Long enough to be caught in the middle; checkpoints at the rungs."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def _command(out: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "augscale", "search", "--study", "smoke", "--out", str(out), *arguments]


def _search(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = _command(out, *arguments)
    return subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=240)


def _start(out: Path, *arguments: str) -> subprocess.Popen[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = _command(out, *arguments)
    return subprocess.Popen(command, env=os.environ | ENVIRONMENT, start_new_session=True, **streams)


def _said(*arguments: str) -> str:
    """What a command prints, run in this process."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    return done.stdout


def _rows(out: Path, *kinds: str) -> list[dict[str, str]]:
    """Rows of trials.csv, those of the trials if no other kinds are named."""
    with open(out / "trials.csv", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["kind"] in (kinds or ("trial", "control"))]


def _wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def _trial(out: Path, number: int) -> dict:
    return read_json(out / "trials" / f"{number:04d}" / "trial.json") or {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("runs") / "smoke"
    return out, _search(out, "--workers", "2", "--json")


def test_a_search_ends_with_the_answer_and_everything_that_the_contract_names(finished):
    out, process = finished
    assert process.returncode == 0, process.stderr
    answer = json.loads(process.stdout)
    assert answer["best"] in {contender["name"] for contender in answer["contenders"]}
    assert {"weak", "strong"} <= {contender["name"] for contender in answer["contenders"]}
    for name in ("study.toml", "study.db", "trials.csv", "best.toml", "report.html", "log.jsonl", "answer.json"):
        assert (out / name).is_file(), name
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")[:500].lower()


def test_exactly_the_wanted_trials_ran_with_the_controls_first(finished):
    rows = _rows(finished[0])
    assert [int(row["number"]) for row in rows] == list(range(6))
    null, untrained = _rows(finished[0], "null", "untrained")
    assert (null["control"], null["state"], null["number"]) == ("none", "COMPLETE", "")
    assert null["score"] == untrained["score"], "without learning nothing moves the score"
    answer = read_json(finished[0] / "answer.json")
    assert answer["null"]["still"]
    assert answer["untrained"]["score"] != answer["null"]["untrained"], "the answer's are means over seeds"
    assert [row["control"] for row in rows[:4]] == ["none", "weak", "strong", "weak+med"]
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
    assert all(row["state"] == "COMPLETE" for row in rows[:4]), "controls are never pruned"


def test_all_trials_start_from_the_same_weights_and_order_so_that_scales_alone_differ(finished):
    out, _ = finished
    assert len({_trial(out, number)["seed"] for number in range(6)}) == 1


def test_the_best_scales_can_be_used_wherever_a_name_can(finished):
    out, process = finished
    card = tomllib.loads((out / "best.toml").read_text(encoding="utf-8"))
    assert card["card"]["method"] == "dino"
    answer = json.loads(process.stdout)
    best = next(c for c in answer["contenders"] if c["name"] == answer["best"])
    assert card["card"]["trial"] == best["number"]
    assert load_scales(str(out / "best.toml")).model_dump(mode="json") == best["scales"]
    assert "--global_crops_scale" in _said("export", str(out / "best.toml"), "--to", "dino")


def test_weights_of_the_controls_are_kept_with_a_sidecar_that_says_what_they_are(finished):
    out, _ = finished
    sidecar = read_json(out / "trials" / "0002" / "teacher.json")
    assert (out / "trials" / "0002" / "teacher.safetensors").is_file()
    assert sidecar["scales"]["brightness"] == 0.4
    assert sidecar["data_fingerprint"] == read_json(out / "manifest.json")["data"]["fingerprint"]


def test_confirmation_repeats_the_contenders_on_the_same_fresh_seeds(finished):
    out, _ = finished
    seeds: dict[str, set[int]] = {}
    for path in (out / "confirm").glob("*/trial.json"):
        record = read_json(path)
        assert record["state"] == "COMPLETE"
        seeds.setdefault(record["name"], set()).add(record["seed"])
    assert len(seeds) >= 2
    assert all(values == next(iter(seeds.values())) and len(values) == 2 for values in seeds.values())
    assert _trial(out, 0)["seed"] not in next(iter(seeds.values()))


def test_the_log_tells_what_the_workers_did_all_their_life(finished):
    events = [json.loads(line) for line in (finished[0] / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    by_name: dict[str, dict[int, dict]] = {}
    for event in events:
        by_name.setdefault(event["event"], {})[event.get("pid", 0)] = event
    assert by_name["search started"][0]["workers"] == 2
    pids = set(by_name["worker started"])
    assert len(pids) == 2
    assert set(by_name["worker ready"]) == set(by_name["worker done"]) == pids
    for pid in pids:
        started, ready, done = (
            datetime.fromisoformat(by_name[f"worker {what}"][pid]["time"]) for what in ("started", "ready", "done")
        )
        assert started < ready < done
        phases = by_name["worker done"][pid]["seconds"]
        assert phases["trials"] > 0
        assert sum(phases.values()) == pytest.approx((done - ready).total_seconds(), abs=0.5)
    assert "workers ended" in by_name


def test_status_reads_the_finished_run(finished):
    progress = json.loads(_said("status", str(finished[0]), "--json"))
    assert sum(progress["counts"].values()) == progress["wanted"] == 6
    assert progress["best"]["score"] is not None


def test_a_run_folder_can_be_copied_and_read_elsewhere(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "copy")
    (tmp_path / "copy" / "trials.csv").unlink()
    _said("report", str(tmp_path / "copy"))
    assert _rows(tmp_path / "copy") == _rows(out)
    config = tomllib.loads((tmp_path / "copy" / "study.toml").read_text(encoding="utf-8"))
    storage = read_json(tmp_path / "copy" / "manifest.json")["storage"]
    assert storage is None, f"the copy would read {storage}, the study of {config['name']} where it was before"


def test_the_same_command_with_more_trials_adds_only_the_difference(finished):
    """Also where the study was written by a version that did not know one of today's settings yet."""
    out, _ = finished
    study = tomllib.loads((out / "study.toml").read_text())
    del study["pretrain"]["norm_last_layer"], study["pretrain"]["compile"]
    (out / "study.toml").write_text(tomli_w.dumps(study))
    before = {number: _trial(out, number)["finished"] for number in range(6)}
    done = searched(out, "--trials", "7")
    assert done.exit_code == 0, done.exception
    assert len(_rows(out)) == 7
    assert {number: _trial(out, number)["finished"] for number in range(6)} == before


def test_a_changed_setting_is_refused_and_named(finished):
    error = searched(finished[0], "--set", "pretrain.lr=0.5").exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert "pretrain.lr: 0.001, now 0.5" in str(error)
    assert "\n" not in str(error)


def test_a_killed_search_continues_its_trial_from_the_checkpoint_and_keeps_the_total(tmp_path):
    out = tmp_path / "killed"
    arguments = ("--trials", "2", "--workers", "1", *LONG)
    process = _start(out, *arguments)
    # Trial 0 finished and trial 1 past its first rung: kill the supervisor and the worker as a power cut would.
    _wait_for(lambda: len(_trial(out, 1).get("rungs", [])) >= 1 and _trial(out, 1)["finished"] is None)
    worker = next(read_json(path) for path in (out / "workers").glob("*.json"))
    # Stopped first, so that neither can notice the other's end and save.
    os.kill(worker["pid"], signal.SIGSTOP)
    process.kill()
    process.wait()
    os.kill(worker["pid"], signal.SIGKILL)
    finished_before, rungs_before = _trial(out, 0)["finished"], _trial(out, 1)["rungs"]

    again = _search(out, *arguments)
    assert again.returncode == 0, again.stderr
    assert len(_rows(out)) == 2
    assert _trial(out, 0)["finished"] == finished_before, "a finished trial is not run twice"
    # The rung was told again if its worker died before the next save: the same numbers, in another time.
    first, first_before = (rungs[0] | {"seconds": None} for rungs in (_trial(out, 1)["rungs"], rungs_before))
    assert first == first_before, "the killed trial went on from its checkpoint"
    assert _trial(out, 1)["starts"] == 2
    events = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["trial"] for event in events if event["event"] == "trial continued"] == [1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_saves_says_so_and_ends_within_ten_seconds(tmp_path, number, code):
    """SIGUSR1 comes to every process at once, as SLURM sends it; SIGTERM comes to a process in test_validate.py."""
    out = tmp_path / "stopped"
    arguments = ("--trials", "2", "--workers", "1", *LONG)
    process = _start(out, *arguments)
    _wait_for(lambda: len(_trial(out, 0).get("loss_history", [])) >= 1 or _trial(out, 0).get("rungs"))
    start = time.monotonic()
    pids = [read_json(path)["pid"] for path in (out / "workers").glob("*.json")]
    for pid in pids if number == signal.SIGUSR1 else []:
        os.kill(pid, number)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == code
    assert f"stopped by {signal.Signals(number).name}; running trials are saved" in output
    assert (out / "trials" / "0000" / "state.pt").is_file()
    if number == signal.SIGUSR1:
        assert {line.state for line in read_status(out).trials} == {"PAUSED"}

    if number == signal.SIGINT:
        again = searched(out, *arguments)
        assert again.exit_code == 0, again.exception
        assert _trial(out, 0)["starts"] == 1, "a trial that was stopped in good order has not died"
        assert len(_rows(out)) == 2


def test_a_diverged_trial_fails_with_the_step_in_its_reason_and_the_search_says_that_nothing_is_left(tmp_path):
    out = tmp_path / "diverged"
    settings = ("pretrain.lr=1e36", "pretrain.warmup_fraction=0", "confirm.seeds=0")
    done = searched(out, "--trials", "2", *(word for setting in settings for word in ("--set", setting)))
    assert isinstance(done.exception, StudyError), done.exception
    assert done.exception.exit_code == 6
    message = str(done.exception)
    rows = _rows(out)
    assert [row["state"] for row in rows] == ["FAIL", "FAIL"]
    assert "at step" in rows[0]["reason"]
    assert "no trial can be used: all 2 trials failed: 2 x" in message
    assert "lower pretrain.lr" in message
    assert not list(out.glob("null/*/trial.json")), "there is nothing to compare"


def _text_folder(path: Path) -> Path:
    path.mkdir()
    (path / "notes.txt").write_text("no image")
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "/no/such/folder"], 3, "/no/such/folder"),
        (["--study", "defalt"], 2, "did you mean default"),
        (["--set", "pretrain.step=5"], 2, "unknown key pretrain.step (did you mean pretrain.steps?)"),
        (["--set", "space.jitter=[0.8, 0.1]"], 2, "jitter = [0.8, 0.1]"),
        (["--set", "space.global_crop_low=[0.9, 0.4]"], 2, "global_crop_low = [0.9, 0.4]"),
        (["--set", "backbone.name=vit_smal_patch16_224"], 2, "vit_smal_patch16_224"),
        (["--set", "crops.local_size=15"], 2, "crops.local_size = 15: expected a multiple"),
        (["--out", "/proc/nowhere/run"], 2, "cannot be written"),
        (["--device", "tpu"], 2, "expected auto, cpu, cuda or cuda:N"),
        (["--budget", "soon"], 2, "--budget soon"),
        (["--set", "search.controls=[\"wek\"]"], 2, "wek"),
        (["--data", "TEXT"], 3, "no"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_before_training_with_one_clear_line(tmp_path, arguments, code, message):
    arguments = [str(_text_folder(tmp_path / "text")) if a == "TEXT" else a for a in arguments]
    if "--study" not in arguments:
        arguments = ["--study", "smoke", *arguments]
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["search", *arguments])
    assert isinstance(result.exception, AugscaleError), result.exception
    assert result.exception.exit_code == code
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list(tmp_path.glob("run/trials/*/trial.json"))
