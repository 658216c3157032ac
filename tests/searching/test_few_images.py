"""With few images the panel of a built-in study shrinks, says so, and stays the same when the run is resumed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import worker_in_this_process

import augscale
import augscale.config
from augscale.config import StudyConfig, load_study, sets_panel
from augscale.errors import ConfigError, DataError
from augscale.records.manifest import ManifestRecord
from augscale.runs.folders import RunFolder
from augscale.scoring.panel import fit_panel
from augscale.searching.prepare import kept_panel, prepare_run
from augscale.searching.search import search

SIXTY_NINE = 69


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """69 images, and a built-in study `few` that holds out 256."""
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    folder, studies = tmp_path / "photos", tmp_path / "studies"
    folder.mkdir()
    studies.mkdir()
    rng = np.random.default_rng(0)
    for number in range(SIXTY_NINE):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    smoke = (augscale.config.studies_dir() / "smoke.toml").read_text(encoding="utf-8")
    assert "images = 12\n" in smoke
    (studies / "few.toml").write_text(smoke.replace("images = 12\n", "images = 256\n"), encoding="utf-8")
    monkeypatch.setattr(augscale.config, "studies_dir", lambda: studies)
    return folder


def _prepared(run: RunFolder, config: StudyConfig, *, given: bool = False) -> tuple[ManifestRecord, list[str]]:
    said: list[str] = []
    facts = {"storage": None, "parameters": 1, "device_label": "cpu"}
    return prepare_run(run, config, **facts, panel_given=given, say=said.append), said


def _held_out(run: RunFolder) -> int:
    return int(tomllib.loads(run.study_file.read_text(encoding="utf-8"))["probe"]["images"])


@pytest.mark.parametrize(("images", "wanted", "fitted"), [
    (512, 256, 256), (511, 256, 170), (120, 256, 40), (60, 256, 20), (59, 256, 256), (30, 12, 12), (20, 12, 12),
])  # fmt: skip
def test_a_third_is_held_out_where_the_panel_is_more_than_half_but_no_fewer_than_twenty(images, wanted, fitted):
    study = StudyConfig.model_validate({"probe": {"images": wanted}})
    assert fit_panel(study, images).probe.images == fitted


def test_the_line_says_how_many_why_and_what_the_least_is(tmp_path, photos):
    config = load_study("few", {"data.sources": [str(photos)]})
    manifest, said = _prepared(RunFolder(tmp_path / "run"), config)
    (line,) = said
    assert line == (
        "too few images to hold out the study's 256 for the score; up to 23 of 69 are held out (a third of them; at "
        "least 20); --set probe.images=N sets another number"
    )
    assert (manifest.data.num_panel, manifest.data.num_train) == (23, 46)
    assert line in manifest.data.notes


def test_the_number_is_in_the_study_of_the_run_and_the_same_command_resumes(tmp_path, photos):
    run, config = RunFolder(tmp_path / "run"), load_study("few", {"data.sources": [str(photos)]})
    first, said = _prepared(run, config)
    assert _held_out(run) == 23
    again, said_again = _prepared(run, config)
    assert (again.study_name, said_again) == (first.study_name, said)
    assert kept_panel(run, config).probe.images == 23
    # A run whose user chose the number goes on with it, too.
    run.study_file.write_text(run.study_file.read_text(encoding="utf-8").replace("images = 23", "images = 30"))
    _, said_then = _prepared(run, config)
    assert _held_out(run) == 30
    assert "up to 30 of 69 are held out (as when this run began;" in said_then[0]
    with pytest.raises(ConfigError, match=r"pretrain\.steps"):
        _prepared(run, load_study("few", {"data.sources": [str(photos)], "pretrain.steps": 99}))


def test_a_number_of_the_user_is_never_changed(tmp_path, photos):
    config = load_study("few", {"data.sources": [str(photos)]})
    with pytest.raises(DataError, match=r"256 images are to be held out of 69.*--set probe.images=23"):
        _prepared(RunFolder(tmp_path / "run"), config, given=True)


def test_too_few_images_are_an_error_as_before(tmp_path, photos):
    for path in list(photos.iterdir())[: SIXTY_NINE - 50]:
        path.unlink()
    with pytest.raises(DataError, match="256 images are to be held out of 50"):
        _prepared(RunFolder(tmp_path / "run"), load_study("few", {"data.sources": [str(photos)]}))


def test_who_sets_the_panel(tmp_path, photos):
    own, other = tmp_path / "own.toml", tmp_path / "other.toml"
    own.write_text("[probe]\nimages = 100\n", encoding="utf-8")
    other.write_text("[probe]\nseed = 1\n", encoding="utf-8")
    assert not sets_panel("few", {"pretrain.steps": 9})
    assert not sets_panel(other, {})
    assert not sets_panel(StudyConfig(), {})
    assert sets_panel("few", {"probe.images": 40})
    assert sets_panel(str(own), {})
    assert sets_panel(load_study(own), {})


def test_a_search_and_its_plan_hold_out_the_same_number_and_it_resumes(tmp_path, photos):
    few = {"confirm.seeds": 0, "search.null_trials": 0, "pretrain.steps": 2, "search.rungs": [1.0]}
    out = tmp_path / "run"
    settings = {"data": str(photos), "device": "cpu", "workers": 1, "out": out, "overrides": few}
    plan = augscale.plan_search("few", trials=1, **settings)
    assert (plan.panel, plan.train) == (23, 46)
    assert "up to 23 of 69 are held out" in plan.notes[0]
    with pytest.raises(DataError, match="256 images are to be held out"):
        augscale.plan_search("few", trials=1, **settings | {"overrides": few | {"probe.images": 256}})
    with worker_in_this_process():
        search("few", trials=1, quiet=True, allow_bad=True, **settings)
        result = search("few", trials=2, quiet=True, allow_bad=True, **settings)
    assert _held_out(RunFolder(out)) == 23
    assert result.answer["data"]["num_panel"] == 23
    assert sum(result.answer["counts"].values()) == 2
