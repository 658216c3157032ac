import json

import numpy as np
import pytest
from run_folder import UNTRAINED_SCORE, put, write_run

from augscale.reporting.search import contender_figures, figures, space_figures
from augscale.reporting.search.results import read_run
from augscale.reporting.shared import style
from augscale.reporting.shared.style import Colors

FUNCTIONS = [
    figures.history,
    figures.rung_curves,
    figures.importance,
    space_figures.slices,
    space_figures.crop_jitter_map,
    contender_figures.confirmation,
    contender_figures.densities,
    contender_figures.training,
]


def colors_of(run):
    best = run.best_trial.name if run.best_trial else None
    return Colors(best, [best or ""] + [t.name for t in run.controls])


def traces(figure, **wanted):
    return [t for t in figure.data if all(getattr(t, key) == value for key, value in wanted.items())]


def with_symbol(figure, symbol):
    return [t for t in figure.data if t.marker.symbol == symbol or t.marker.symbol == (symbol,)]


def edit(folder, number, **changes):
    path = folder / "trials" / f"{number:04d}" / "trial.json"
    put(path, json.loads(path.read_text(encoding="utf-8")) | changes)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_run_without_trials_has_no_figures(tmp_path, function):
    assert function(read_run(tmp_path), Colors(None, [])) is None


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_axis_that_is_shown_has_a_title_or_names(finished, function):
    for panel in function(finished, colors_of(finished)).panels:
        layout = panel.figure.layout
        assert layout.xaxis.title.text
        assert layout.yaxis.title.text or layout.yaxis.ticktext or layout.yaxis.visible is False
        assert layout.template.layout.showlegend is False, "names stand on the plot"


def test_the_history_shows_each_trial_once_at_its_score(finished):
    (panel,) = figures.history(finished, colors_of(finished)).panels
    points = {
        x: y
        for trace in panel.figure.data
        if trace.mode == "markers"
        for x, y in zip(trace.x, trace.y, strict=True)
    }  # fmt: skip
    assert sorted(points) == [t.number for t in finished.trials]
    low, high = panel.figure.layout.yaxis.range
    for trial in finished.trials:
        if trial.state == "FAIL" or not low <= trial.last_score <= high:
            assert points[trial.number] == pytest.approx(low, abs=0.02 * (high - low))
        else:
            assert points[trial.number] == pytest.approx(trial.last_score, abs=0.02 * (high - low))


def test_the_highest_score_so_far_never_falls_and_ignores_collapsed_trials(tmp_path):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "trials" / "0017" / "trial.json").read_text(encoding="utf-8"))
    edit(folder, 17, final=record["final"] | {"score": 9.0})
    run = read_run(folder)
    (panel,) = figures.history(run, colors_of(run)).panels
    (line,) = traces(panel.figure, mode="lines")
    assert list(line.y) == sorted(line.y)
    assert line.y[-1] == max(t.score for t in run.trials if t.is_usable)
    assert line.y[-1] < 9


def test_margin_labels_do_not_overlap(finished):
    (panel,) = figures.history(finished, colors_of(finished)).panels
    heights = sorted(a.y for a in panel.figure.layout.annotations if a.xref == "paper")
    low, high = panel.figure.layout.yaxis.range
    pixels = np.diff(heights) / (high - low) * style.plot_height(panel.figure)
    assert len(heights) == 7, "the best, its confirmed rival, four controls, the untrained network"
    assert pixels.min() >= style.LINE_PIXELS - 0.01


def test_an_outlier_leaves_the_others_readable_and_is_told(tmp_path):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "trials" / "0020" / "trial.json").read_text(encoding="utf-8"))
    edit(folder, 20, final=record["final"] | {"score": -500.0})
    run = read_run(folder)
    for function in (figures.history, space_figures.slices):
        plot = function(run, colors_of(run))
        low, high = plot.panels[0].figure.layout.yaxis.range
        assert high - low < 3
        assert any("Outside the range shown" in note and "500" in note for note in plot.notes)


def test_slices_mark_controls_only_where_they_lie_in_the_space(finished):
    plot = space_figures.slices(finished, colors_of(finished))
    titles = [panel.title for panel in plot.panels]
    assert titles[0] == "Jitter strength", "the most important parameter first"
    figure = plot.panels[0].figure
    (strong,), (weak,) = with_symbol(figure, "diamond"), with_symbol(figure, "square")
    assert (strong.x[0], weak.x[0]) == pytest.approx((0.4, 0.2))
    labels = {a.text for a in figure.layout.annotations}
    assert labels == {"<b>strong</b>", "<b>weak</b>", f"<b>{finished.best_trial.name}</b>"}
    assert any("none, weak+med" in note for note in plot.notes)


def test_areas_are_shown_in_percent_on_slices(finished):
    plot = space_figures.slices(finished, colors_of(finished))
    panel = next(p for p in plot.panels if p.title == "Smallest global crop")
    (strong,) = with_symbol(panel.figure, "diamond")
    assert strong.x[0] == pytest.approx(40)
    assert "%" in panel.figure.layout.xaxis.title.text


@pytest.mark.parametrize("function", [figures.history, figures.rung_curves], ids=lambda f: f.__name__)
def test_the_untrained_network_is_a_line_with_a_name(finished, function):
    (panel,) = function(finished, colors_of(finished)).panels
    lines = [shape.y0 for shape in panel.figure.layout.shapes if shape.line.dash == "dash"]
    assert lines == [UNTRAINED_SCORE]
    assert any(a.text.startswith("untrained") for a in panel.figure.layout.annotations)
    low, high = panel.figure.layout.yaxis.range
    assert low < UNTRAINED_SCORE < high


def test_scores_that_hardly_differ_are_not_blown_up(tmp_path):
    folder = write_run(tmp_path / "run", trials=6, answer=False)
    (folder / "untrained.json").unlink()
    for number in range(6):
        record = json.loads((folder / "trials" / f"{number:04d}" / "trial.json").read_text(encoding="utf-8"))
        final = record["final"] and record["final"] | {"score": 0.5 + number / 1e5}
        edit(folder, number, final=final, rungs=[])
    run = read_run(folder)
    for function in (figures.history, space_figures.slices):
        low, high = function(run, colors_of(run)).panels[0].figure.layout.yaxis.range
        assert high - low == pytest.approx(style.LEAST_SCORES)


def test_densities_have_the_area_and_mean_of_their_histograms(finished):
    plot = contender_figures.densities(finished, colors_of(finished))
    assert len(plot.panels) == 3
    best = finished.best_trial
    row = len(plot.panels[0].figure.layout.yaxis.tickvals) - 1
    for panel, (name, level) in zip(plot.panels, best.final.levels.items(), strict=True):
        assert name in panel.title
        humps = [t for t in traces(panel.figure, fill="toself") if t.y[0] == row]
        edges = np.array(level.histogram_edges)
        heights = [np.array(t.y[1:-1]) - row for t in humps]
        centers = np.array(humps[0].x[1:-1])
        for height, counts in zip(heights, (level.negative_histogram, level.positive_histogram), strict=True):
            middle = (edges[1:] + edges[:-1]) / 2
            assert np.average(centers, weights=height) == pytest.approx(np.average(middle, weights=counts), abs=1e-3)
        assert heights[0].sum() == pytest.approx(heights[1].sum(), rel=1e-2), "equal areas within a row"


def test_density_rows_share_one_axis_and_are_named_with_their_score(finished):
    plot = contender_figures.densities(finished, colors_of(finished))
    ranges = {tuple(panel.figure.layout.xaxis.range) for panel in plot.panels}
    assert len(ranges) == 1
    names = plot.panels[0].figure.layout.yaxis.ticktext
    assert finished.best_trial.name in names[-1], "the best on top"
    first = next(iter(finished.best_trial.final.levels.values()))
    assert f"{first.dprime:.2f}" in names[-1]


def test_a_control_without_histograms_is_left_out_of_the_densities(tmp_path):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "trials" / "0001" / "trial.json").read_text(encoding="utf-8"))
    for level in record["final"]["levels"].values():
        level["positive_histogram"] = []
    edit(folder, 1, final=record["final"])
    run = read_run(folder)
    plot = contender_figures.densities(run, colors_of(run))
    text = " ".join(plot.panels[0].figure.layout.yaxis.ticktext)
    assert "strong" in text
    assert ">weak<" not in text


def test_confirmation_shows_the_answers_own_numbers(finished):
    plot = contender_figures.confirmation(finished, colors_of(finished))
    scores, differences = (panel.figure for panel in plot.panels)
    confirmed = [c for c in finished.answer.contenders if c.confirm_scores]
    seeds = [t for t in scores.data if t.mode == "markers" and len(t.x) == 3]
    assert sorted(tuple(t.x) for t in seeds) == sorted(c.confirm_scores for c in confirmed)
    means = [t.x[0] for t in differences.data if t.mode == "markers"]
    assert sorted(means) == sorted(c.versus_best.difference for c in confirmed if c.versus_best)
    bars = [tuple(t.x) for t in differences.data if t.mode == "lines"]
    assert sorted(bars) == sorted(c.versus_best.interval for c in confirmed if c.versus_best)
    assert finished.best_trial.name in scores.layout.yaxis.ticktext[-1]


def test_the_shape_of_a_seed_is_kept_when_another_seed_failed(tmp_path):
    folder = write_run(tmp_path / "run")
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    weak = next(c for c in answer["contenders"] if c["name"] == "weak")
    del weak["confirm_scores"][0]
    put(folder / "answer.json", answer)
    path = folder / "confirm" / "trial-0001-seed0" / "trial.json"
    put(path, json.loads(path.read_text(encoding="utf-8")) | {"state": "FAIL", "final": None})
    run = read_run(folder)
    figure = contender_figures.confirmation(run, colors_of(run)).panels[0].figure
    (seeds,) = [t for t in figure.data if list(t.x) == weak["confirm_scores"]]
    assert list(seeds.marker.symbol) == list(contender_figures.SEED_SYMBOLS[1:3])


def test_verdicts_on_the_plot_follow_the_sign_of_the_difference(tmp_path):
    folder = write_run(tmp_path / "run")
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    verdicts = {"weak": (0.2, [0.1, 0.3], True), "strong": (-0.2, [-0.3, -0.1], True)}
    for contender in answer["contenders"]:
        if contender["name"] in verdicts:
            values = verdicts[contender["name"]]
            contender["versus_best"] = dict(zip(("difference", "interval", "distinguishable"), values, strict=True))
    put(folder / "answer.json", answer)
    run = read_run(folder)
    figure = contender_figures.confirmation(run, colors_of(run)).panels[1].figure
    words = {a.x: a.text for a in figure.layout.annotations}
    assert (words[0.2], words[-0.2]) == ("better", "worse")


def test_the_loss_ceiling_is_the_logarithm_of_the_outputs(finished):
    plot = contender_figures.training(finished, colors_of(finished))
    heights = [shape.y0 for shape in plot.panels[0].figure.layout.shapes]
    assert heights == [pytest.approx(np.log(1024))]
    low, high = plot.panels[0].figure.layout.yaxis.range
    assert low < heights[0] < high


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('method = "simclr"\nbatch_size = 32', [np.log(2 * 32 - 1)]),
        ('method = "mocov3"\nbatch_size = 32\ncontrast_temp = 0.5', [4 * 0.5 * np.log(32)]),
        ('method = "dinov2"\nibot_weight = 0.0', []),
        ("unheard_of = 1", []),
    ],
)
def test_the_loss_ceiling_is_that_of_the_method(tmp_path, settings, expected):
    folder = write_run(tmp_path / "run")
    study = folder / "study.toml"
    study.write_text(f'name = "x"\n[pretrain]\n{settings}\n[crops]\nn_local = 0\n', encoding="utf-8")
    run = read_run(folder)
    figure = contender_figures.training(run, colors_of(run)).panels[0].figure
    assert [shape.y0 for shape in figure.layout.shapes] == pytest.approx(expected)


def test_importance_bars_are_the_answers_shares(finished):
    plot = figures.importance(finished, colors_of(finished))
    (panel,) = plot.panels
    assert list(panel.figure.data[0].x) == sorted(finished.answer.importance.values())
    (chance,) = panel.figure.layout.shapes
    assert chance.x0 == 0.81 < panel.figure.layout.xaxis.range[1]
    assert "below 81% in 95 of 100 cases; the largest here is not" in plot.notes[0]


def test_pruned_trials_end_at_their_rung_and_are_faded(finished):
    (panel,) = figures.rung_curves(finished, colors_of(finished)).panels
    (ends,) = [t for t in panel.figure.data if t.marker.symbol == "x-thin"]
    pruned = [t for t in finished.trials if t.state == "PRUNED"]
    assert sorted(zip(ends.x, ends.y, strict=True)) == sorted((t.rungs[-1].step, t.rungs[-1].score) for t in pruned)
    (faded,) = [t for t in panel.figure.data if t.mode == "lines" and t.line.dash == "dot"]
    assert faded.line.color == style.FAINT


def test_names_are_shown_as_text_not_as_markup(tmp_path):
    folder = write_run(tmp_path / "run", trials=8)
    edit(folder, 2, control="<b>x</b>")
    run = read_run(folder)
    (panel,) = figures.history(run, colors_of(run)).panels
    assert any("&lt;b&gt;x" in (a.text or "") for a in panel.figure.layout.annotations)
