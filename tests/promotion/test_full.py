"""A full run: its folder, its resumption after every kind of end, its refusals."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
import typer
from typer.testing import CliRunner

from augscale.cli.pretrain import pretrain as pretrain_command
from augscale.config import load_study
from augscale.data.cache import build_cache
from augscale.errors import CheckpointError, ConfigError, InterruptedRun
from augscale.networks.backbones import build_backbone
from augscale.networks.export_weights import export_weights
from augscale.networks.loading import load_weights_into
from augscale.networks.weights import read_sidecar
from augscale.promotion.full_run import pretrain_full
from augscale.promotion.recorder import Recorder, best_of
from augscale.records.full_run import PanelEvaluation
from augscale.runs.files import read_json
from augscale.scoring.panel import panel_split

ARGUMENTS = {"study": "smoke", "epochs": 2, "evaluations": 3, "log_every": 2, "device": "cpu", "quiet": True}
STEPS = 12
"""Two epochs of 54 images in batches of 8."""


def _run(out, **arguments):
    return pretrain_full("weak", out=out, **ARGUMENTS | arguments)


def _log(folder, event):
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == event]


def _equal_weights(first, second):
    a, b = safetensors.torch.load_file(first), safetensors.torch.load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _same_run(folder, finished):
    """All that was learned and logged, less times."""
    whole = finished.run_dir
    for name in ("last.safetensors", "best.safetensors"):
        assert _equal_weights(folder / name, whole / name)
    assert read_json(folder / "evaluations.json") == read_json(whole / "evaluations.json")
    steps = [
        [{key: entry[key] for key in entry if key not in ("time", "images_per_second")} for entry in _log(run, "step")]
        for run in (folder, whole)
    ]
    assert steps[0] == steps[1]


def test_a_run_leaves_weights_log_and_facts(finished_run):
    folder = finished_run.run_dir
    names = {"study.toml", "manifest.json", "log.jsonl", "evaluations.json", "result.json", "state.pt", "lock"}
    names |= {"last.safetensors", "last.json", "best.safetensors", "best.json", "tensorboard"}
    assert {path.name for path in folder.iterdir()} == names
    assert finished_run.steps == STEPS
    assert [entry["step"] for entry in _log(folder, "step")] == [2, 4, 6, 8, 10, 12]
    entry = _log(folder, "step")[2]
    assert entry["epoch"] == 1.0
    assert entry["student_temp"] == 0.1
    wanted = {"loss", "lr", "weight_decay", "teacher_momentum", "teacher_temp", "information", "images_per_second"}
    assert wanted <= entry.keys()
    assert [record["step"] for record in read_json(folder / "evaluations.json")] == [4, 8, 12]
    manifest = read_json(folder / "manifest.json")
    assert manifest["data"]["num_train"] + manifest["data"]["num_panel"] == manifest["data"]["num_images"]
    assert load_study(folder / "study.toml").pretrain.steps == STEPS


def test_the_weights_and_their_sidecars_belong_together(finished_run):
    evaluations = {record["step"]: record for record in read_json(finished_run.run_dir / "evaluations.json")}
    for path, wanted in ((finished_run.last_weights, 12), (finished_run.best_weights, finished_run.best.step)):
        facts = read_sidecar(path).to_dict()
        assert facts["step"] == wanted
        assert facts["metrics"]["score"] == evaluations[wanted]["score"]
        assert facts["scales_name"] == "weak"
        assert facts["seed"] == 0
        study = load_study("smoke")
        report = load_weights_into(build_backbone(study.backbone, facts["image_size"]), path)
        assert report.matched_share == 1
    assert finished_run.best.to_dict() == max(evaluations.values(), key=lambda record: record["score"])


def test_the_panel_of_a_full_run_is_that_of_a_search_and_is_not_trained_on(finished_run):
    study = load_study("smoke")
    train, held_out = panel_split(build_cache(study.data), study)
    manifest = read_json(finished_run.run_dir / "manifest.json")
    assert manifest["data"]["num_train"] == len(train)
    assert manifest["data"]["num_panel"] == len(held_out)
    assert not set(train) & set(held_out)


def test_tensorboard_files_hold_the_log(finished_run):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(finished_run.run_dir / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(entry["step"], pytest.approx(entry["loss"])) for entry in _log(finished_run.run_dir, "step")]
    assert [event.step for event in events.Scalars("panel/score")] == [4, 8, 12]


def test_the_best_is_the_highest_score_that_has_not_collapsed():
    def record(step, score, verdict="healthy"):
        return PanelEvaluation(step=step, epoch=1, score=score, score_name="dprime", verdict=verdict)

    assert best_of([record(1, 0.5), record(2, 0.7), record(3, 0.7)]).step == 2
    assert best_of([record(1, 0.5, "suspicious"), record(2, 0.9, "collapsed")]).step == 1
    assert best_of([record(1, 0.5, "collapsed"), record(2, 0.9, "collapsed")]).step == 2


def test_a_finished_run_is_not_repeated(finished_run, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("augscale.promotion.full_session.pretrain", never)
    again = _run(finished_run.run_dir)
    assert again == finished_run
    assert _run(finished_run.run_dir, resume=True) == finished_run


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM"), (signal.SIGUSR1, "SIGUSR1")]
)
def test_a_signal_saves_and_the_same_call_continues_to_the_same_end(finished_run, tmp_path, monkeypatch, number, name):
    told = Recorder.on_log
    before = signal.getsignal(number)

    def signalled(self, entry):
        told(self, entry)
        if entry.step == 6:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_log", signalled)
        with pytest.raises(InterruptedRun, match=f"stopped by {name}; the run is saved in") as caught:
            _run(tmp_path)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert _log(tmp_path, "interrupted")[0]["signal"] == number
    _run(tmp_path, resume=True)
    _same_run(tmp_path, finished_run)


def test_a_run_killed_with_kill_9_continues_from_its_last_state_to_the_same_end(finished_run, tmp_path):
    code = "from augscale.promotion.full_run import pretrain_full as run; import sys\n"
    code += f"run('weak', out=sys.argv[1], overrides={{'pretrain.checkpoint_seconds': 0}}, **{ARGUMENTS!r})"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=os.getcwd())
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "state.pt").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    # The lock of the dead process is free, and half-written files are not looked at.
    (tmp_path / ".state.pt.rest").write_bytes(b"half")
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"event": "step", "st')
    _run(tmp_path)
    _same_run(tmp_path, finished_run)


def test_a_full_disk_is_said_clearly_and_leaves_the_state_to_continue_from(finished_run, tmp_path, monkeypatch):
    told = Recorder.on_log
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_from_step_8(self, entry):
        told(self, entry)
        if entry.step == 8:
            # Files of more than 64 KiB cannot be written any more: the state does not fit, the log does.
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "on_log", full_from_step_8)
            with pytest.raises(
                CheckpointError, match=r"state\.pt: cannot be written .*previous file, if any, is intact"
            ):
                _run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    _run(tmp_path)
    _same_run(tmp_path, finished_run)


def test_an_evaluation_that_was_interrupted_is_made_again(finished_run, tmp_path, monkeypatch):
    def dies(*_, **__):
        raise CheckpointError("no")

    with monkeypatch.context() as patch:
        patch.setattr("augscale.promotion.recorder.save_weights", dies)
        with pytest.raises(CheckpointError):
            _run(tmp_path)
    _run(tmp_path)
    _same_run(tmp_path, finished_run)


def test_micro_batches_may_change_on_resumption_and_other_settings_may_not(finished_run, tmp_path, monkeypatch):
    def stop(self, event):
        raise CheckpointError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_rung", stop)
        with pytest.raises(CheckpointError):
            _run(tmp_path)
    for changed, message in (
        ({"epochs": 3}, r"pretrain\.steps: 12, now 18"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"overrides": {"pretrain.lr": 0.1}}, r"pretrain\.lr: 0\.001, now 0\.1"),
        ({"overrides": {"data.synthetic_patients": 30}}, r"data\.synthetic_patients: 24, now 30"),
    ):
        with pytest.raises(ConfigError, match=f"was begun with other settings .*{message}"):
            _run(tmp_path, **changed)
    with pytest.raises(ConfigError, match=r"scales\.brightness"):
        pretrain_full("strong", out=tmp_path, **ARGUMENTS)
    # A setting that is younger than the run has its default; what decides nothing may change.
    manifest = tmp_path / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["settings"]["pretrain.student_temp"]
    manifest.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"\(pretrain\.student_temp: 0\.1, now 0\.2\)"):
        _run(tmp_path, overrides={"pretrain.student_temp": 0.2})
    free = {"pretrain.compile": "never", "pretrain.checkpoint_seconds": 1, "pretrain.max_memory": "8GB"}
    assert _run(tmp_path, accumulate=2, overrides=free).steps == STEPS


def test_resume_wants_something_to_resume(tmp_path):
    with pytest.raises(ConfigError, match="holds no state to continue from"):
        _run(tmp_path, resume=True)


def test_a_folder_in_use_or_of_a_search_is_refused(finished_run, tmp_path):
    from augscale.runs.folders import try_lock

    lock = try_lock(tmp_path / "lock")
    with pytest.raises(ConfigError, match="another process is training in it"):
        _run(tmp_path)
    lock.release()
    (tmp_path / "study.db").touch()
    with pytest.raises(ConfigError, match="holds a search"):
        _run(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 5}, "--epochs 2 and --steps 5: expected one of them"),
        ({"epochs": 0}, "--epochs 0: expected a number above 0"),
        ({"init": "nowhere.pth"}, "--init nowhere.pth: no such file"),
        ({"arch": "vit_smal_patch16_224"}, "unknown model 'vit_smal_patch16_224' \\(did you mean"),
        ({"accumulate": 3}, "expected a multiple of 3"),
        ({"batch_size": 60}, "expected at least pretrain.batch_size = 60"),
        ({"overrides": {"pretrain.epoch": 3}}, r"smoke: unknown key pretrain\.epoch"),
    ],
)
def test_what_cannot_run_is_refused_before_training(tmp_path, arguments, message):
    from augscale.errors import AugscaleError

    with pytest.raises(AugscaleError, match=message):
        _run(tmp_path / "run", **arguments)
    assert not (tmp_path / "run" / "state.pt").exists()


def test_another_architecture_starts_from_an_exported_file(finished_run, tmp_path):
    exported = export_weights(finished_run.best_weights, "dino", tmp_path / "start.pth")
    result = _run(tmp_path / "run", init=str(exported.path), epochs=None, steps=1)
    assert result.steps == 1
    other = _run(tmp_path / "other", arch="resnet10t", epochs=None, steps=1)
    assert read_sidecar(other.last_weights).backbone.overrides == {}


def test_without_tensorboard_a_run_says_so_once_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    _run(tmp_path, quiet=False, epochs=None, steps=4)
    said = capsys.readouterr().err
    assert said.count("no TensorBoard files: the tensorboard package is not installed") == 1
    assert not (tmp_path / "tensorboard").exists()


def test_plain_output_tells_what_runs_and_every_evaluation(tmp_path, capsys):
    _run(tmp_path, quiet=False, epochs=None, steps=4, evaluations=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("pre-training vit_tiny_patch16_224")
    assert "4 steps x 8 images" in lines[0]
    assert any("held out to choose the best weights by" in line for line in lines)
    assert [line.split(",")[0] for line in lines if "d'" in line] == ["step 2/4", "step 4/4"]


def test_the_command_prints_the_result_as_json(tmp_path):
    app = typer.Typer()
    app.command()(pretrain_command)
    command = ["--scales", "strong@0.5", "--study", "smoke", "--data", "synthetic", "--steps", "2", "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path), "--set", "pretrain.lr=2e-3", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["steps"] == 2
    assert result["scales"]["brightness"] == 0.2
    assert result["last_weights"] == str(tmp_path / "last.safetensors")
    assert load_study(tmp_path / "study.toml").pretrain.lr == 2e-3


TWO_PROCESSES = """
import sys
from augscale.promotion.full_run import pretrain_full
from augscale.pretraining.distributed import global_rank
result = pretrain_full("weak", study="smoke", out=sys.argv[1], epochs=2, evaluations=3, log_every=2, device="cpu",
                       overrides={"pretrain.head_batch_norm": False})
print(f"process {global_rank()}: {result.best.step}, {result.loss:.6f}")
"""


@pytest.mark.slow
def test_torchrun_gives_the_run_of_one_process(tmp_path):
    alone = _run(tmp_path / "alone", overrides={"pretrain.head_batch_norm": False})
    (tmp_path / "script.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(tmp_path / "script.py"), str(tmp_path / "two")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.findall(r"process (\d): (\d+), (\d+\.\d{6})", done.stdout)
    assert sorted(rank for rank, _, _ in found) == ["0", "1"]
    for _, step, loss in found:
        assert int(step) == alone.best["step"]
        assert float(loss) == pytest.approx(alone.loss, rel=1e-5)
    assert done.stderr.count("pre-training vit_tiny_patch16_224") == 1
    assert "on 2 x cpu" in done.stderr
    scores = [
        [record["score"] for record in read_json(tmp_path / run / "evaluations.json")] for run in ("alone", "two")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_full_run_says_logs_and_keeps_how_its_batches_are_cut(tmp_path, monkeypatch):
    from augscale.pretraining import dino_method

    loss = dino_method.dino_loss

    def scarce(student_logits, teacher_probs, temp, **options):
        if len(student_logits) > 4 * 4:  # images x views
            raise MemoryError
        return loss(student_logits, teacher_probs, temp)

    monkeypatch.setattr(dino_method, "dino_loss", scarce)
    finished = _run(tmp_path, max_memory="1TB")
    assert finished.micro_batches["number"] == 2
    assert read_json(tmp_path / "result.json")["micro_batches"] == json.loads(json.dumps(finished.micro_batches))
    logged = _log(tmp_path, "micro-batches")
    assert [(entry["number"], entry["size"]) for entry in logged] == [(1, 8), (2, 4)]
    assert logged[1]["cause"] == "out of memory"
    facts = read_sidecar(finished.last_weights).to_dict()
    assert facts["accumulate"] == 2
    assert "not strictly comparable" in facts["micro_batches"]["note"]
    assert load_study(tmp_path / "study.toml").pretrain.max_memory == "1TB"


def test_a_limit_that_is_no_size_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrain.max_memory: '8 gigs': expected a number above 0 with a unit"):
        _run(tmp_path / "run", max_memory="8 gigs")
    assert not (tmp_path / "run").exists()
