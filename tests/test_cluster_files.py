"""Batch files and Dockerfile: every command of an array is accepted, a saved job is queued again, files are copied."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from document_blocks import ROOT
from test_document_commands import _parse

SLURM = ROOT / "examples" / "slurm"
STAND_IN = """#!/bin/sh
python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$(basename "$0")" "$@" >> "$CALLS"
[ "$(basename "$0")" = scontrol ] || exit "$CODE"
"""
"""Takes the place of srun and scontrol: writes down how it was called."""


def _calls(tmp_path: Path, batch: str, task: int, code: int = 0) -> tuple[int, list[list[str]]]:
    """Runs a batch file with stand-ins for SLURM; returns its exit code, and the calls of srun and scontrol."""
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.write_text("")
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls), "CODE": str(code),
        "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": "7", "DATA": "/data/two words",
    }  # fmt: skip
    done = subprocess.run(["bash", str(SLURM / batch)], env=environment, check=False)
    return done.returncode, [json.loads(line) for line in calls.read_text().splitlines()]


def _tasks(batch: str) -> range:
    array = re.search(r"^#SBATCH --array=0-(\d+)$", (SLURM / batch).read_text(), re.MULTILINE)
    return range(int(array[1]) + 1 if array else 1)


@pytest.mark.parametrize("batch", sorted(path.name for path in SLURM.glob("*.sbatch")))
def test_every_task_runs_a_command_that_augscale_accepts(tmp_path, batch):
    commands = []
    for task in _tasks(batch):
        code, calls = _calls(tmp_path, batch, task)
        assert code == 0
        (name, program, *words), *rest = calls
        assert (name, program, rest) == ("srun", "augscale", [])
        _parse(words, complete=True)
        assert words[words.index("--data") + 1] == "/data/two words"
        commands.append(tuple(words))
    assert len(set(commands)) == len(commands)
    assert len({words[words.index("--out") + 1] for words in commands}) == len(commands)


@pytest.mark.parametrize("batch", sorted(path.name for path in SLURM.glob("*.sbatch")))
@pytest.mark.parametrize(("code", "queued"), [(138, True), (2, False)])
def test_a_job_that_was_saved_is_queued_again_and_a_failed_one_is_not(tmp_path, batch, code, queued):
    ended, calls = _calls(tmp_path, batch, 0, code)
    assert ended == code
    assert (["scontrol", "requeue", "7"] in calls) == queued


def test_the_dockerfile_copies_what_the_build_needs_and_runs_as_a_user():
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(sent)
    assert re.search(r"^USER augscale$", text, re.MULTILINE)
    # hadolint: a tag that is not latest, no cache of pip, absolute WORKDIR.
    assert re.findall(r"^FROM \S+:(?!latest)\S+$", text, re.MULTILINE)
    assert text.count("pip install") == text.count("pip install --no-cache-dir")
    assert all(folder.startswith("/") for folder in re.findall(r"^WORKDIR (\S+)$", text, re.MULTILINE))
