"""`augscale compare`: two searches side by side, and whether their scores can be compared."""

import io
import json
import shutil

import pytest
from rich.console import Console
from run_folder import UNTRAINED_SCORE, put, write_run
from typer.testing import CliRunner

import augscale
from augscale.cli.app import app
from augscale.errors import ConfigError
from augscale.reporting.search.comparison_terminal import comparison_screen, print_comparison
from augscale.reporting.shared.screen import plain_screen


def change(path, **values):
    put(path, json.loads(path.read_text(encoding="utf-8")) | values)


@pytest.fixture
def two_runs(tmp_path):
    run = write_run(tmp_path / "a", trials=12)
    change(run / "manifest.json", study_name="default-1", statistics="common")
    return [run, shutil.copytree(run, tmp_path / "b")]


def set_in(run, old, new):
    file = run / "study.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_two_runs_of_one_study_can_be_compared(two_runs):
    found = augscale.compare_runs(*two_runs)
    assert found.comparable
    assert found.same_study
    assert found.settings == ()
    text = plain_screen(comparison_screen(found))
    assert text.startswith("The same study on the same panel: scores can be compared.")
    assert "Settings that differ" not in text


def test_another_length_of_training_is_shown_and_does_not_forbid_a_comparison(two_runs):
    set_in(two_runs[1], "steps = 300", "steps = 600")
    change(two_runs[1] / "manifest.json", study_name="default-2")
    found = augscale.compare_runs(*two_runs)
    assert found.settings == (("pretrain.steps", 300, 600),)
    assert found.comparable
    assert not found.same_study
    assert "pretrain.steps  300  600" in plain_screen(comparison_screen(found))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [("[probe]", "[probe]\nimages = 99", "probe.images"), ('score = "dprime"', 'score = "pair_auroc"', "probe.score")],
)
def test_scores_of_two_panels_are_not_compared(two_runs, old, new, key):
    set_in(two_runs[1], old, new)
    found = augscale.compare_runs(*two_runs)
    assert not found.comparable
    assert key in found.obstacles[0]
    assert "scores cannot be compared, because the panels differ" in " ".join(
        plain_screen(comparison_screen(found)).split()
    )


def test_scores_on_other_images_or_of_another_version_are_not_compared(two_runs):
    manifest = json.loads((two_runs[1] / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"]["fingerprint"] = "another"
    manifest["versions"]["augscale"] = "0.0.1"
    put(two_runs[1] / "manifest.json", manifest)
    images, versions = augscale.compare_runs(*two_runs).obstacles
    assert "images" in images
    assert "0.1.0 and 0.0.1" in versions


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_answers_controls_and_headlines(two_runs, columns):
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    found = augscale.compare_runs(*two_runs)
    print_comparison(found, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines()[:-4])) <= min(columns, 100)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    scores = [run.controls["weak"] for run in found.runs]
    assert rows["weak"] == [f"{value:.3f}" for one in scores for value in (one.search, one.fresh)]
    assert rows["untrained"][0] == f"{UNTRAINED_SCORE:.3f}"
    words = " ".join(text.split())
    assert f"- A: {found.runs[0].answer.headline}" in words


def test_a_search_that_still_runs_is_compared_by_what_it_has(two_runs, tmp_path):
    running = write_run(tmp_path / "running", trials=12, answer=False)
    change(running / "manifest.json", study_name="default-1", statistics="common")
    found = augscale.compare_runs(two_runs[0], running)
    assert found.runs[1].controls["weak"].search is not None
    assert found.runs[1].controls["weak"].fresh is None
    assert "- B: the search has not ended." in plain_screen(comparison_screen(found))


def test_json_holds_settings_scores_and_obstacles(two_runs):
    set_in(two_runs[1], "steps = 300", "steps = 600")
    done = CliRunner().invoke(app, ["compare", *map(str, two_runs), "--json"])
    values = json.loads(done.stdout)
    assert values["comparable"] is True
    assert values["settings"] == [{"key": "pretrain.steps", "values": [300, 600]}]
    assert set(values["runs"][0]["controls"]["weak"]) == {"search", "fresh"}
    assert values["runs"][0]["best"]["name"]


def test_a_folder_that_is_no_search_is_refused_by_name(two_runs, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing: not the run folder of a search; expected"):
        augscale.compare_runs(two_runs[0], tmp_path / "nothing")
