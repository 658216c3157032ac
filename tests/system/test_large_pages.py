"""Processes that train are told of large pages before they start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from augscale.system import large_pages

SHOW = """
import os, sys
sys.argv = ["augscale", {command!r}]
from augscale.system.large_pages import restart_with_large_pages
restart_with_large_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"))
"""


def _started(command: str, **variables: str) -> tuple[int, list[str]]:
    environment = {key: value for key, value in os.environ.items() if key != large_pages.VARIABLE} | variables
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW.format(command=command)], env=environment, stdout=subprocess.PIPE, text=True
    )
    return process.pid, process.communicate(timeout=240)[0].split()


@pytest.mark.skipif(not large_pages.has_glibc(), reason="needs glibc")
def test_a_process_that_trains_starts_again_once_under_the_same_number():
    pid, said = _started("worker")
    assert said == [str(pid), large_pages.SETTING]


@pytest.mark.parametrize(("command", "variables", "expected"), [
    ("search", {}, "None"),
    ("--help", {}, "None"),
    ("worker", {"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "glibc.malloc.check=0"),
])  # fmt: skip
def test_others_and_a_users_own_setting_are_left_alone(command, variables, expected):
    assert _started(command, **variables)[1][1] == expected
