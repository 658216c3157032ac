import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from augscale.cli.app import app
from augscale.cli.options import parse_assignments
from augscale.errors import ConfigError
from augscale.searching.search import parse_budget


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "augscale", *arguments], capture_output=True, text=True, timeout=120)


def test_the_command_line_is_parsed_without_heavy_libraries():
    heavy = ["torch", "timm", "optuna", "numpy", "faiss"]
    code = f"import sys, augscale.cli.app, augscale; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_names_every_command_and_the_exit_codes():
    text = CliRunner().invoke(app, ["--help"]).output
    for word in ("search", "status", "report", "preview", "export", "doctor", "Exit codes"):
        assert word in text


@pytest.mark.parametrize("to", ["torchvision", "dino", "lightly", "lightly-train", "solo-learn"])
def test_export_prints_only_the_text_so_that_it_can_be_piped(to):
    done = CliRunner().invoke(app, ["export", "weak", "--to", to])
    assert done.exit_code == 0
    as_json = CliRunner().invoke(app, ["export", "weak", "--to", to, "--json"])
    assert json.loads(as_json.output)["text"].rstrip("\n") + "\n" == done.output


def test_an_error_is_one_line_with_its_exit_code_and_a_traceback_only_on_request():
    done = _run("export", "wek", "--to", "dino")
    assert done.returncode == 2
    assert done.stderr.startswith("augscale: ")
    assert "weak" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" in _run("export", "wek", "--to", "dino", "--debug").stderr


def test_doctor_finds_this_installation_working():
    done = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.exit_code == 0, findings
    assert {"versions", "device", "precision", "faiss", "torchvision", "storage", "cache", "free disk"} == set(findings)


def test_status_of_a_folder_that_is_no_run_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "not a run folder" in str(result.exception)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("45", 45), (0.5, 0.5)]
)
def test_budgets_are_read_as_people_write_them(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "5d"])
def test_a_budget_that_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="expected a duration"):
        parse_budget(text)


def test_assignments_take_toml_values_and_bare_words():
    values = parse_assignments(["pretrain.steps=5", "search.prune=false", "space.jitter=[0, 0.4]", "data.sources=x y"])
    assert values == {
        "pretrain.steps": 5,
        "search.prune": False,
        "space.jitter": [0, 0.4],
        "data.sources": "x y",
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_assignments(["pretrain.steps"])


def test_a_flag_that_is_empty_text_is_refused_and_not_ignored():
    assert parse_assignments([], {"data.exclude": [], "backbone.init": None, "data.patient_pattern": ""}) == {
        "data.patient_pattern": ""
    }
    done = CliRunner().invoke(app, ["search", "--study", "smoke", "--patients-from", "", "--dry-run"])
    assert isinstance(done.exception, ConfigError)
    assert "data.patient_pattern: '' has no group in parentheses" in str(done.exception)


ONE_SEED = "The scales of trial 3 score highest on one fresh seed, which allows no verdict: the same command goes on."
NO_ANSWER = "No answer: even trial 3, the best, does not keep pairs apart better than the network before training."


@pytest.mark.parametrize(
    ("card", "warned"),
    [
        (f'outcome = "training taught nothing"\nheadline = "{NO_ANSWER}"', "has no answer"),
        (f'headline = "{NO_ANSWER}"', "has no answer"),  # written by 0.2.0
        (f'outcome = "not finished"\nheadline = "{NO_ANSWER}"', "has no answer"),
        (f'outcome = "not finished"\nheadline = "{ONE_SEED}"', "has not finished, so its answer may change"),
        (f'outcome = "no verdict"\nheadline = "{ONE_SEED}"', "has no verdict"),
        (f'outcome = "best found"\nheadline = "{ONE_SEED}"', "has no verdict"),  # written before these outcomes
        ('outcome = "best found"\nheadline = "The scales of trial 3 keep pairs apart better than weak."', ""),
    ],
)
def test_export_of_a_card_without_an_answer_warns_in_one_line_and_exports_all_the_same(tmp_path, card, warned):
    file = tmp_path / "best.toml"
    file.write_text(f"[card]\n{card}\n[scales]\nbrightness = 0.1\n", encoding="utf-8")
    for name in (str(file), f"{file}@0.5"):
        done = CliRunner().invoke(app, ["export", name, "--to", "dino"])
        assert done.exit_code == 0
        assert done.stdout.startswith("--global_crops_scale")
        lines = done.stderr.splitlines()
        assert len(lines) == bool(warned)
        assert not warned or lines[0].startswith(f"warning: {file}")
        assert not warned or (f"its search {warned}" in lines[0] and "trial 3" in lines[0])


def test_export_writes_scales_to_a_file_where_one_is_given(tmp_path):
    file = tmp_path / "flags.txt"
    printed = CliRunner().invoke(app, ["export", "weak", "--to", "dino"]).output
    done = CliRunner().invoke(app, ["export", "weak", "--to", "dino", "--out", str(file)])
    assert done.exit_code == 0
    assert done.output == f"{file}\n"
    assert file.read_text() == printed
