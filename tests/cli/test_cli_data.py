"""`augscale data ...`: what is printed, JSON, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from augscale.cli.data import data_app
from augscale.errors import ConfigError, DataError

NAMES = ["MESSIDOR-2", "IDRiD", "APTOS2019", "PAPILA", "JSIEC", "Retina"]


def _run(*arguments: str | Path):
    return CliRunner().invoke(data_app, [str(argument) for argument in arguments])


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """Retina's layout; the files are not opened before the check."""
    for folder, count in (("1_normal", 6), ("2_cataract", 4), ("2_glaucoma", 4), ("3_retina_disease", 4)):
        (tmp_path / "download" / folder).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "download" / folder / f"{number}.png").write_bytes(f"{folder}{number}".encode())
    return tmp_path / "download"


def test_heavy_libraries_are_not_loaded_to_parse_the_line():
    heavy = ["torch", "timm", "optuna", "numpy", "PIL", "openpyxl"]
    code = f"import sys, augscale.cli.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "[]", done.stderr


def test_list_names_all_six_with_counts_licence_and_how_to_get_them(tmp_path: Path):
    done = _run("list", "--data-root", tmp_path)
    assert done.exit_code == 0
    for name in NAMES:
        assert f"\n{name}: " in done.output
        assert f"augscale data prepare {name} --from FOLDER" in done.output
    for text in ("972/246/526", "10.21227/H25W98", "GPL 3.0+", "3477553", "licence   not stated", str(tmp_path)):
        assert text in done.output
    assert "present" not in done.output


def test_prepare_then_list_then_again(tmp_path: Path, download: Path):
    root = ("--data-root", tmp_path / "root")
    done = _run("prepare", "retina", "--from", download, *root)
    assert done.exit_code == 0
    assert "Retina prepared: 18 images, 10/3/5 train/val/test" in done.output
    assert "note: 18 images; Table 1 has 336/84/181, together 601" in done.output
    assert "present   10/3/5 train/val/test, split at random by image" in _run("list", *root).output
    assert "prepared already, nothing changed" in _run("prepare", "Retina", "--from", download, *root).output
    refused = _run("prepare", "Retina", "--from", download, "--split", "image", *root)
    assert isinstance(refused.exception, ConfigError)
    assert _run("prepare", "Retina", "--from", download, "--split", "image", "--force", *root).exit_code == 0


def test_check_prints_a_line_for_each_finding_and_exits_with_3_on_an_error(tmp_path: Path, download: Path):
    root = ("--data-root", tmp_path / "root")
    assert isinstance(_run("check", "Retina", *root).exception, DataError)
    _run("prepare", "Retina", "--from", download, *root)
    done = _run("check", "Retina", *root)
    assert done.exit_code == 3
    assert "Retina: 10/3/5 train/val/test; Table 1 has 336/84/181" in done.output
    assert "error    unreadable: 18 files that cannot be used as images" in done.output
    assert "warning  counts: train: 10 images, Table 1 has 336" in done.output


def test_json_of_every_command(tmp_path: Path, download: Path):
    root = ("--data-root", tmp_path / "root", "--json")
    prepared = json.loads(_run("prepare", "Retina", "--from", download, *root).stdout)
    assert prepared["counts"]["total"] == 18
    assert prepared["changed"] is True
    listed = json.loads(_run("list", *root).stdout)
    assert [entry["name"] for entry in listed["datasets"]] == NAMES
    assert listed["datasets"][-1]["files_present"] == 18
    checked = _run("check", "Retina", *root)
    result = json.loads(checked.stdout)
    assert (checked.exit_code, result["ok"], result["counts"]["train"]) == (3, False, 10)
    assert {"severity", "kind", "text", "files"} == set(result["findings"][0])
