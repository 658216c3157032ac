"""`augscale search --dry-run`: what would run, its cost, and nothing left behind."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

import augscale
from augscale.cli.app import app
from augscale.config import load_study
from augscale.data.sources import scan_data
from augscale.errors import ConfigError, DataError
from augscale.reporting.search.plan_terminal import plan_screen, print_plan
from augscale.reporting.shared.screen import plain_screen
from augscale.runs.files import write_json
from augscale.searching import dry_run
from augscale.searching.dry_run import SearchPlan


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plan():
    return augscale.plan_search("smoke", trials=5, workers=2, device="cpu")


def test_a_plan_counts_images_runs_and_cost_and_writes_nothing(plan, tmp_path):
    assert list(tmp_path.iterdir()) == []
    assert plan.patients == 24
    assert plan.train + plan.panel == plan.images
    assert (plan.trials, plan.confirmations, plan.nulls) == (5, 6, 1)
    assert plan.cost.seconds_per_step > 0
    assert 1e6 < plan.cost.bytes < 1e10
    assert plan.bytes == 2 * plan.cost.bytes
    runs, views = 5 + 6 + 1, 12 * (1 + 2 * 3)
    each = 8 * plan.cost.seconds_per_step + 3 * views * plan.cost.seconds_per_view
    assert plan.seconds == pytest.approx(runs * each / 2)


def test_a_budget_is_set_against_the_forecast(plan, monkeypatch):
    """Of 5 trials 4 are controls, so 5 is the shortest search with an answer; 6 confirmation runs, 1 null run."""
    assert (plan.budget, plan.fitting) == (None, None)
    assert "budget" not in plan_screen(plan).headline
    monkeypatch.setattr(dry_run, "measure_cost", lambda config, workers: plan.cost)

    def planned(seconds: float, trials: int) -> SearchPlan:
        return augscale.plan_search("smoke", trials=trials, budget=seconds, workers=2, device="cpu")

    each = plan.seconds / 12
    assert plan.shortest == pytest.approx(plan.seconds)
    for seconds, trials, fitting, words in (
        (12.01 * each, 5, 5, "fits all 5 trials with their confirmation."),
        (11.99 * each, 5, 0, "fits no answer: the shortest, with one searched trial, takes about"),
        (20.5 * each, 40, 13, "fits about 13 of 40 trials with their confirmation."),
    ):
        found = planned(seconds, trials)
        assert (found.fitting, found.budget) == (fitting, seconds)
        assert words in plan_screen(found).headline
        assert found.to_dict()["fitting"] == fitting
    for seconds, calls in ((11.99 * each, 2), (each, 12), (5 * each, 3)):
        said = plan_screen(planned(seconds * 1.0001, 5)).headline
        assert f"Several calls add up: it takes {calls} of this budget" in said
        assert "--set pretrain.steps=... and --set confirm.seeds=... (2 or more) shorten a search" in said
        assert "shorter trials may not learn" in said


def test_a_forecast_from_busy_cores_says_so(plan):
    assert 0 < plan.cost.core_share <= 1
    (step,) = (row.cells[1] for row in plan_screen(plan).tables[0].rows if row.cells[0] == "time of a step")
    assert step.endswith("by one worker, on cores as busy as now")
    study = load_study("smoke")
    for share, said in ((0.42, True), (0.97, False), (None, False)):
        notes = dry_run._notes(study, scan_data(study.data), False, replace(plan.cost, core_share=share))
        assert (
            any("other work left 42 % of a core to the timed steps; the forecast is for" in note for note in notes)
            == said
        )


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_the_forecast_first(plan, columns):
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    print_plan(plan, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert text.index("This search would take about") < text.index("65 of 24 patients") < text.index(" - ")
    assert plain_screen(plan_screen(plan)).isascii()


def test_the_command_prints_a_plan_or_json_and_makes_no_run_folder(tmp_path):
    done = CliRunner().invoke(app, ["search", "--study", "smoke", "--device", "cpu", "--dry-run", "--json"])
    assert done.exit_code == 0, done.exception
    values = json.loads(done.stdout)
    assert values["study"] == "smoke"
    assert values["run"] == "runs/smoke"
    assert values["begun"] is False
    assert list(tmp_path.iterdir()) == []


def test_what_a_search_would_refuse_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="images are to be held out"):
        augscale.plan_search("smoke", device="cpu", overrides={"probe.images": 60})
    with pytest.raises(ConfigError, match="unknown study"):
        augscale.plan_search("smokes")
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "manifest.json", {"study_name": "smoke-1"})
    (run / "study.toml").write_text('name = "smoke"\n[pretrain]\nsteps = 9\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="was made with other settings"):
        augscale.plan_search("smoke", device="cpu", out=run)
