"""Large pages for processes of heavy work, and imports that the garbage collector skips."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from augscale.system import startup
from augscale.system.startup import lasting_imports

SHOW = """
import os, sys
sys.argv = ["augscale", {command!r}]
from augscale.system.startup import restart_with_large_pages
restart_with_large_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"))
"""


def _started(command: str, **variables: str) -> tuple[int, list[str]]:
    environment = {key: value for key, value in os.environ.items() if key != startup.LARGE_PAGES_VARIABLE} | variables
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW.format(command=command)], env=environment, stdout=subprocess.PIPE, text=True
    )
    return process.pid, process.communicate(timeout=240)[0].split()


@pytest.mark.skipif(not startup.has_glibc(), reason="needs glibc")
@pytest.mark.parametrize("command", ["worker", "evaluate"])
def test_a_process_of_heavy_work_starts_again_once_under_the_same_number(command):
    pid, said = _started(command)
    assert said == [str(pid), startup.LARGE_PAGES_SETTING]


@pytest.mark.parametrize(("command", "variables", "expected"), [
    ("search", {}, "None"),
    ("--help", {}, "None"),
    ("worker", {"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "glibc.malloc.check=0"),
])  # fmt: skip
def test_others_and_a_users_own_setting_are_left_alone(command, variables, expected):
    assert _started(command, **variables)[1][1] == expected


def test_what_is_imported_is_out_of_the_collectors_sight_and_collection_goes_on_afterwards():
    before = gc.get_freeze_count()
    try:
        with lasting_imports():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(made)
    finally:
        gc.unfreeze()


def test_an_import_that_fails_leaves_collection_on():
    try:
        with pytest.raises(ImportError), lasting_imports():
            import no_such_module  # noqa: F401
        assert gc.isenabled()
    finally:
        gc.unfreeze()
