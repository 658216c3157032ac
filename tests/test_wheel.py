"""The wheel: built, installed without its dependencies into a fresh environment, and used there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from document_blocks import ROOT

import augscale

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed (extra test)"),
]


def _run(*command: str | Path, cwd: Path, clean: bool = True) -> str:
    """Standard output of a command; `clean`: without the search path for modules of this process."""
    environment = {name: value for name, value in os.environ.items() if not clean or name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=ROOT, clean=False)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_package_and_the_studies(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (ROOT / "augscale").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    wanted = {str(path.relative_to(ROOT)) for path in files}
    wanted |= {f"augscale/studies/{path.name}" for path in (ROOT / "studies").glob("*.toml")}
    assert wanted - held == set()
    assert {"augscale/py.typed", "augscale/searching/trust.json", "augscale/studies/default.toml"} <= held
    assert not [name for name in held if name.startswith(("tests/", "docs/", "examples/"))]


def test_it_works_in_a_fresh_environment(wheel, tmp_path):
    _run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    # Its dependencies are those of this environment; an editable augscale in it is not seen through such a line.
    packages = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = tmp_path / "env" / "bin" / "augscale"
    assert _run(command, "--version", cwd=tmp_path) == f"augscale {augscale.__version__}\n"
    assert "--global_crops_scale 0.5 1.0" in _run(command, "export", "weak", "--to", "dino", cwd=tmp_path)
    place = "import augscale; print(augscale.__file__); print(augscale.load_study('smoke').name)"
    found, study = _run(python, "-c", place, cwd=tmp_path).split()
    assert Path(found).is_relative_to(packages)
    assert study == "smoke"
