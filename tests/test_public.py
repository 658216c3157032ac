"""The names of the package: what is advertised is there, and no module stands in a function's way."""

from __future__ import annotations

import subprocess
import sys

import augscale


def test_every_public_name_stays_what_it_is_whatever_has_been_imported():
    code = """
import augscale, importlib, pkgutil, types
first = {name: getattr(augscale, name) for name in augscale.__all__}
for module in pkgutil.walk_packages(augscale.__path__, "augscale."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
again = {name: getattr(augscale, name) for name in augscale.__all__}
print([name for name in again if again[name] is not first[name] or isinstance(again[name], types.ModuleType)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_dir_lists_the_public_names():
    assert {"search", "diagnose", "preview", "pretrain_full"} <= set(dir(augscale))
