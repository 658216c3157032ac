"""The script that spends a given time on a GPU: every part ends with its share, and the study is that of the CPUs."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.cli.options import parse_assignments
from augscale.config import StudyConfig, load_study
from augscale.errors import CheckpointError, ConfigError, DataError
from benchmarks import gpu_study
from benchmarks.evidence.plan import planned_runs
from benchmarks.evidence.settings import MeasureSettings, load_settings
from benchmarks.gpu_pack import PACKAGE, pack


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    """`main` handles SIGTERM for the rest of its process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _options(tmp_path: Path, *more: str) -> argparse.Namespace:
    return gpu_study._parser().parse_args(["--minutes", "9", "--data-root", "DIR", "--out", str(tmp_path), *more])


def _resolved(options: argparse.Namespace, settings: tuple[str, ...] = ()) -> tuple[StudyConfig, MeasureSettings]:
    """Study and measurements of the command that the script would start."""
    command = gpu_study._study(options, gpu_study._measure(options), options.out / "runs", settings)
    assignments = [word.removeprefix("--set=") for word in command if word.startswith("--set=")]
    assert command[command.index("--plan") + 1] == "long"
    study = load_study(command[command.index("--study") + 1], parse_assignments(assignments))
    return study, load_settings(Path(command[command.index("--measure") + 1]))


def test_a_part_ends_with_its_time_and_keeps_what_it_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    begin = time.monotonic()
    code = "import time; print('begun', flush=True); time.sleep(60)"
    calls: list[float] = []

    gpu_study._part("long", [sys.executable, "-c", code], 2.0, log, lambda: calls.append(time.monotonic()))
    gpu_study._part("short", [sys.executable, "-c", "print('whole')"], 30.0, log)
    gpu_study._part("none", [sys.executable, "-c", "print('never')"], 0.0, log)

    assert time.monotonic() - begin < 40
    lines = capsys.readouterr().out.splitlines()
    assert "long: stopped by the time" in lines[0]
    assert lines[0].endswith("begun")
    assert "short: exit code 0" in lines[1]
    assert lines[1].endswith("whole")
    assert lines[2].endswith("none: no time left")
    assert log.read_text() == "whole\n"
    assert len(calls) >= 2


def test_nothing_that_a_part_started_outlives_it(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"

    gpu_study._part("long", [sys.executable, "-c", code], 3.0, tmp_path / "log.txt")

    child = int((tmp_path / "log.txt").read_text())
    end = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_study_is_that_of_the_cpus_but_for_its_length(tmp_path: Path) -> None:
    study, measure = _resolved(_options(tmp_path))
    theirs = load_study("evidence-imagenet-simclr")

    length = {"steps": 4000, "compile": "never"}
    assert study == theirs.model_copy(update={"pretrain": theirs.pretrain.model_copy(update=length)})
    assert study.pretrain.steps * study.pretrain.batch_size == 128_000
    assert measure == load_settings(Path("benchmarks/evidence/measure-imagenet-cpu.toml"))
    shorter, _ = _resolved(_options(tmp_path, "--images", "32000"))
    assert shorter.pretrain.steps == 1000


def test_the_second_network_has_its_own_weights_and_folders(tmp_path: Path) -> None:
    weights = tmp_path / "vit.safetensors"
    options = _options(tmp_path, "--vit", str(weights))

    (first, none), (second, settings) = gpu_study._studies(options)
    study, _ = _resolved(options, settings)

    assert (first, none, second) == ("imagenet-gpu", (), "imagenet-gpu-vits16")
    assert (study.backbone.name, study.backbone.init) == ("vit_small_patch16_224", str(weights))
    assert [name for name, _ in gpu_study._studies(_options(tmp_path, "--vit", "F", "--vit-only"))] == [second]


def test_a_null_and_the_controls_come_before_the_scales(tmp_path: Path) -> None:
    space = load_study("evidence-imagenet-simclr").space
    runs = planned_runs("long", space)

    whole = {run.run_id: run for run in planned_runs("pretrained", space)}
    assert {run.run_id for run in runs} == set(whole)
    assert len(runs) == len(whole)
    assert [run.run_id for run in runs[:6]] == [
        "null-strong-s0",
        "none-s0",
        "weak-s0",
        "strong-s0",
        "weak+med-s0",
        "untrained-s0",
    ]
    assert {run.seed for run in runs[6:11]} == {1}
    assert [run.run_id for run in runs[11:15]] == ["sobol-00-s0", "sobol-00-s1", "sobol-01-s0", "sobol-01-s1"]
    assert [run.name for run in runs[11:59]] == [f"sobol-{number:02d}" for number in range(24) for _ in range(2)]
    for run in runs:
        if run.kind == "null":
            assert dict(run.recipe) == {"lr": 0.0, "min_lr": 0.0, "steps": 20}
        else:
            assert run == whole[run.run_id]


@pytest.mark.parametrize("minutes", ["3", "9", "30"])
def test_the_study_keeps_half_of_the_time(tmp_path: Path, minutes: str) -> None:
    options = _options(tmp_path, "--minutes", minutes)
    seconds = 60 * options.minutes
    reserve = min(gpu_study.RESERVE_SECONDS, gpu_study.RESERVE_SHARE * seconds)

    shares = sum(share for _, _, share in gpu_study._first_parts(options))

    assert seconds * (1 - shares) - reserve >= seconds / 2


def test_the_other_parts_take_the_arguments_that_the_script_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import throughput

    (_, tests, _), (_, paper, _), (_, default, _) = gpu_study._first_parts(_options(tmp_path))
    parsed = []
    for command in (paper, default):
        monkeypatch.setattr(sys, "argv", command[2:])
        parsed.append(throughput._arguments())

    assert "tests/pretraining/test_loop.py" in tests, "it has tests marked gpu"
    assert [options.study for options in parsed] == ["fundus-vits16", "default"]
    assert parsed[0].batch_size == 256
    assert [(options.others, options.against) for options in parsed] == [("16x1", ["official"])] * 2


def _write_palm(root: Path, size: int = 36) -> None:
    """60 photographs of 30 patients in two classes, JPEG."""
    (root / "palm").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels, meta = ["file,label,split"], ["file,patient"]
    for number in range(60):
        patient, kind = number // 2, number // 2 % 2
        image = rng.integers(0, 120, size=(size, size, 3), dtype=np.uint8)
        image[8:28, 8:28, kind] += 90
        Image.fromarray(image).save(root / "palm" / f"{number:02d}.jpg", quality=95)
        split = "train" if patient < 18 else "val" if patient < 23 else "test"
        labels.append(f"{number:02d}.jpg,{'ab'[kind]},{split}")
        meta.append(f"{number:02d}.jpg,{patient}")
    (root / "palm" / "labels.csv").write_text("\n".join(labels) + "\n")
    (root / "palm" / "meta.csv").write_text("\n".join(meta) + "\n")


def test_a_pack_is_a_smaller_data_root_with_weights(tmp_path: Path) -> None:
    _write_palm(tmp_path / "root", size=80)

    line = pack(tmp_path / "root", tmp_path / "pack", ["palm"], side=40)

    packed = tmp_path / "pack"
    assert "60 photographs of at most 40 px" in line
    for table in ("labels.csv", "meta.csv"):
        assert (packed / "palm" / table).read_text() == (tmp_path / "root" / "palm" / table).read_text()
    for number in range(60):
        with Image.open(packed / "palm" / f"{number:02d}.jpg") as image:
            assert image.size == (40, 40)
    # In a process of its own: the one of the tests has the package already.
    code = (
        "import sys; from pathlib import Path; from benchmarks.gpu_pack import use_packed_weights\n"
        "use_packed_weights(Path(sys.argv[1]))\n"
        "import importlib.util, os; print(importlib.util.find_spec(sys.argv[2]).origin, os.environ['HF_HUB_OFFLINE'])"
    )
    command = [sys.executable, "-c", code, str(packed), PACKAGE]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert found == f"{packed / 'weights' / PACKAGE / '__init__.py'} 1"
    weights = next((packed / "weights" / PACKAGE / "models").glob("*.pth"))
    assert weights.read_bytes() == (Path(_origin(PACKAGE)).parent / "models" / weights.name).read_bytes()
    with pytest.raises(ConfigError, match="exists; expected the name of a new folder"):
        pack(tmp_path / "root", packed, ["palm"])


def _origin(package: str) -> str:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


def test_a_pack_that_is_too_large_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_palm(tmp_path / "root")

    with pytest.raises(DataError) as refused:
        pack(tmp_path / "root", tmp_path / "pack", ["palm"], largest=18_000_000)

    message = str(refused.value)
    assert "\n" not in message
    assert "weights 18.8); expected at most 18, with a smaller --pack-side" in message
    assert [path.name for path in tmp_path.iterdir()] == ["root"], "nothing is left behind"
    # By the command, with the datasets of the study, of which three are missing.
    assert gpu_study.main(["--data-root", str(tmp_path / "root"), "--pack", str(tmp_path / "pack")]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_what_would_end_the_study_late_is_refused_at_the_start(tmp_path: Path) -> None:
    _write_palm(tmp_path / "root")
    arguments = ["--data-root", str(tmp_path / "root"), "--toy", "--vit", str(tmp_path / "none.pth")]
    options = _options(tmp_path, *arguments)

    with pytest.raises(CheckpointError, match="no such file; expected weights of vit_small_patch16_224"):
        gpu_study._check(options, gpu_study._measure(options))
    with pytest.raises(DataError, match=r"no aptos2019/labels\.csv"):
        gpu_study._check(options, gpu_study.MEASURE)


def test_results_are_collected_as_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collector = gpu_study.Collector(tmp_path / "runs", tmp_path / "csv")
    results = tmp_path / "runs" / "results"
    results.mkdir(parents=True)
    for name in ("study.toml", "measure.toml"):
        (tmp_path / "runs" / name).write_text("")
    shape = {"kind": "run", "seed": 0, "parts": ["spread"], "state": "failed", "reason": "none", "seconds": 1.0}

    collector()
    assert not (tmp_path / "csv").exists()
    for count, name in enumerate(("weak", "strong"), start=1):
        (results / f"{name}-s0.json").write_text(
            json.dumps(shape | {"run": f"{name}-s0", "name": name, "scales": None, "rungs": []})
        )
        collector()
        collector()
        with (tmp_path / "csv" / "runs.csv").open() as file:
            assert len(list(csv.DictReader(file))) == count
    assert len(capsys.readouterr().out.splitlines()) == 2


SCRIPT = """
import sys
from benchmarks import gpu_study
gpu_study._first_parts = lambda options: []
{more}
sys.exit(gpu_study.main(sys.argv[1:]))
"""
"""The study alone: tests and throughput come before it and leave no CSV."""
STAND_IN = """
import json, sys, time
from pathlib import Path
out = Path(sys.argv[1])
(out / "results").mkdir(parents=True)
for name in ("study.toml", "measure.toml"):
    (out / name).write_text("")
for number in range(1000):
    name = f"sobol-{number:02d}"
    rung = {"step": 1, "fraction": 1.0, "loss": 0.5, "information": 0.1, "scores": {}, "draws": {}}
    rung["outcomes"] = {"palm": {"cv": {"auroc": 0.5, "aupr": 0.5}}}
    result = {"run": f"{name}-s0", "name": name, "kind": "run", "seed": 0, "parts": [], "scales": None, "seconds": 1.0}
    text = json.dumps(result | {"state": "complete", "reason": None, "rungs": [rung]})
    part = out / "part"
    part.write_text(text)
    part.rename(out / "results" / f"{name}-s0.json")
    time.sleep(1)
"""


def _start(arguments: list[str], more: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT.format(more=more), *arguments])


def _toy_arguments(tmp_path: Path) -> tuple[list[str], Path]:
    _write_palm(tmp_path / "root")
    arguments = ["--data-root", str(tmp_path / "root"), "--out", str(tmp_path / "out"), "--toy"]
    return [*arguments, "--device", "cpu", "--workers", "1", "--minutes", "30"], tmp_path / "out"


def test_a_kill_leaves_the_csvs_of_all_but_the_last_results(tmp_path: Path) -> None:
    """Results come from a program that writes one a second, as the study does when its runs end."""
    arguments, out = _toy_arguments(tmp_path)
    csvs = out / "evidence" / "imagenet-gpu"
    command = f"gpu_study._study = lambda options, measure, runs, settings: [sys.executable, '-c', {STAND_IN!r}, runs]"
    script = _start(arguments, command)
    try:
        _wait_for(lambda: (csvs / "baselines.csv").exists() and len(_runs_of(csvs)) >= 3, script)
        there = len(list((out / "study" / "imagenet-gpu" / "results").iterdir()))
    finally:
        script.kill()
        script.wait()
        _end_orphans(out)

    found = _runs_of(csvs)
    assert found == [f"sobol-{number:02d}-s0" for number in range(len(found))]
    assert len(found) >= there - 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_of_the_study_in_miniature_leaves_csvs(tmp_path: Path) -> None:
    arguments, out = _toy_arguments(tmp_path)
    csvs = out / "evidence" / "imagenet-gpu"
    killed = _start(arguments)
    try:
        _wait_for((csvs / "labels.csv").exists, killed)
    finally:
        killed.kill()
        killed.wait()
        _end_orphans(out)
    assert "null-strong-s0" in _runs_of(csvs)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.1)


def _runs_of(csvs: Path) -> list[str]:
    with (csvs / "outcomes.csv").open() as outcomes, (csvs / "runs.csv").open() as runs:
        assert {row["run"] for row in csv.DictReader(outcomes)}
        return [row["run"] for row in csv.DictReader(runs)]


def _end_orphans(out: Path) -> None:
    """SIGKILL reaches the script alone; what it had started is known by the folder in its command."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out / "study" / "imagenet-gpu").encode() in command:
            os.kill(int(folder.name), signal.SIGKILL)
