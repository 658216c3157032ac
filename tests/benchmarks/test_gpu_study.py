"""The script that spends a given time on a GPU: every part ends with its share, and the study is the one planned."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from augscale.cli.options import parse_assignments
from augscale.config import load_study
from benchmarks import gpu_study
from benchmarks.evidence.settings import load_settings


def test_a_part_ends_with_its_time_and_keeps_what_it_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    begin = time.monotonic()
    code = "import time; print('begun', flush=True); time.sleep(60)"

    gpu_study._part("long", [sys.executable, "-c", code], 2.0, log)
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


@pytest.mark.parametrize("toy", [False, True])
def test_the_study_has_settings_that_can_be_run(tmp_path: Path, toy: bool) -> None:
    arguments = ["--minutes", "9", "--data-root", "DIR", "--out", str(tmp_path), *(["--toy"] if toy else [])]
    command = gpu_study._study(["python", "-m"], gpu_study._parser().parse_args(arguments))

    settings = [word.removeprefix("--set=") for word in command if word.startswith("--set=")]
    study = load_study(command[command.index("--study") + 1], parse_assignments(settings))
    measure = load_settings(Path(command[command.index("--measure") + 1]))
    assert measure.plan == "pretrained"
    assert study.backbone.init == "imagenet"
    if not toy:
        assert study.pretrain.steps * study.pretrain.batch_size == pytest.approx(40_000, abs=study.pretrain.batch_size)
