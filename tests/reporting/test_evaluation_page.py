"""The evaluation's sections of the report: complete, escaped, and drawn as Plots in the style of the page."""

import json
import re
from html import escape, unescape

import pytest
from made_predictions import made_evaluation, made_run

from augscale.errors import DataError
from augscale.evaluation.summary import summarize
from augscale.records.evaluation import EvaluationSummary
from augscale.reporting.evaluation import figures
from augscale.reporting.evaluation.page import write_evaluation_page
from augscale.reporting.evaluation.section import evaluation_sections
from augscale.reporting.evaluation.terminal import evaluation_screen, headline
from augscale.reporting.shared.page import shell
from augscale.reporting.shared.style import Colors

NASTY = "<script>alert('x')</script>&"


@pytest.fixture(scope="module")
def summary() -> EvaluationSummary:
    return summarize(made_evaluation(seeds=2), resamples=50, notes=("idrid is missing: <get it>",))


@pytest.fixture(scope="module")
def nasty() -> EvaluationSummary:
    return summarize(
        [
            made_run(checkpoint=c, protocol=NASTY, trained_on=t, tested_on=d, classes=("ok", NASTY), images=30)
            for c in ("weak", NASTY)
            for t in (NASTY, "b")
            for d in (NASTY, "b")
        ],
        resamples=10,
    )


def all_plots(summary):
    colors = Colors("best", summary.checkpoints)
    first, dataset = summary.protocols[0], summary.datasets[0]
    return {
        "internal": figures.internal(summary, colors, "auroc"),
        "roc": figures.roc_curves(summary, first, dataset, colors),
        "pr": figures.pr_curves(summary, first, dataset, colors),
        "calibration": figures.calibration(summary, first, colors),
    }


def page_of(summary):
    """HTML, plots by element id, and the anchors of the sections."""
    drawings = {}
    read_back = EvaluationSummary.parse(json.loads(json.dumps(summary.to_dict())), "evaluation.json")
    links, html = evaluation_sections(read_back, drawings)
    return html, drawings, [anchor for anchor, _ in links]


def section_of(summary, anchor):
    """Visible text and HTML of one section."""
    html = page_of(summary)[0]
    part = html[html.index(f'<section id="{anchor}">') :].split("</section>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split()), part


def test_the_sections_in_their_order(summary):
    html, drawings, anchors = page_of(summary)
    assert anchors == ["evaluation", "internal", "external", "disagreements", "curves", "calibration"]
    assert re.findall(r'<section id="([a-z]+)">', html) == anchors
    assert re.findall(r'class="drawing" id="([^"]+)"', html) == list(drawings)
    assert not set(anchors) & set(drawings)


def test_tables_values_and_notes_are_on_the_page(summary):
    html, _, _ = page_of(summary)
    for cell in summary.cells:
        assert f"{cell.metrics['auroc'].mean:.3f}" in html
    assert "idrid is missing: &lt;get it&gt;" in html
    assert "0.933" in html, "the paper's value for APTOS2019"
    assert "compare orders and differences, not values" in html
    assert "Pre-training seeds are not covered" in html


def test_the_page_opens_with_the_answer_a_table_and_at_most_three_notes(summary, tmp_path):
    page = write_evaluation_page(tmp_path / "page.html", summary).read_text(encoding="utf-8")
    assert f"<h1>{escape(headline(summary))}</h1>" in page
    top, below = page[page.index("<main>") :].split("<h3>All protocols</h3>")
    screen = evaluation_screen(summary, tmp_path)
    for table in screen.tables:
        for line in table.rows:
            assert f'<td data-head="verdict">{escape(str(line.cells[-1]))}</td>' in top
    notes = top[top.index('<ul class="notes">') :].split("</ul>")[0]
    assert notes.count("<li>") == min(3, len(screen.notes))
    assert "Pre-training seeds are not covered" in notes
    assert "How often one checkpoint" in below
    assert headline(summary) not in unescape(top), "the header has it"
    in_a_report = evaluation_sections(summary, {})[1]
    assert headline(summary) in unescape(in_a_report)


def test_disagreements_say_who_wins_where_and_how_sure(summary):
    text, _ = section_of(summary, "disagreements")
    assert "strong before best" in text
    assert re.search(r"released \+0\.\d{3} \(beyond chance\)", text)
    shown = [d for d in summary.disagreements if d.metric in ("auroc", "aupr", "paper_sensitivity")]
    assert f"In {len(shown)} of 36 questions" in text


def test_agreement_is_said_too():
    runs = [made_run(protocol=p, checkpoint=c, skill=g) for p in ("linear", "knn") for c, g in (("a", 3.0), ("b", 0.0))]
    text, html = section_of(summarize(runs, resamples=20), "disagreements")
    assert text.endswith("All protocols order every pair of checkpoints alike, in all 3 questions.")
    assert "<table" not in html


def test_one_protocol_and_checkpoint_leave_out_what_needs_two():
    _, _, anchors = page_of(summarize([made_run()], resamples=10))
    assert anchors == ["evaluation", "internal", "curves", "calibration"]


def test_nothing_evaluated_is_said_with_its_notes():
    text, html = section_of(summarize([], notes=("nothing is <prepared>",)), "evaluation")
    assert "Nothing has been evaluated." in text
    assert "nothing is &lt;prepared&gt;" in html


def test_names_of_users_are_text_everywhere(nasty):
    html, drawings, _ = page_of(nasty)
    page = shell(title="x", header="", main=html, data=drawings)
    assert "<script>alert" not in page
    assert "<script>alert('x')</script>" in unescape(html)
    for plot in all_plots(nasty).values():
        for panel in plot.panels:
            assert "<script" not in json.dumps(json.loads(panel.figure.to_json())["data"])
            assert "<script" not in json.dumps(panel.figure.layout.to_plotly_json()["xaxis"])


def test_a_file_of_something_else_is_refused():
    with pytest.raises(DataError, match="expected what augscale evaluate writes"):
        EvaluationSummary.parse({"score": 3}, "evaluation.json")


def test_every_axis_is_named(summary):
    for name, plot in all_plots(summary).items():
        for panel in plot.panels:
            layout = panel.figure.layout
            assert layout.xaxis.title.text, name
            assert layout.yaxis.title.text or layout.yaxis.ticktext, name


def test_internal_marks_stand_at_their_means_with_both_intervals(summary):
    colors = Colors("best", summary.checkpoints)
    plot = figures.internal(summary, colors, "aupr")
    assert [panel.title for panel in plot.panels] == [f"Protocol {p}" for p in summary.protocols]
    figure = plot.panels[0].figure
    marks = sorted(trace.x[0] for trace in figure.data if trace.mode == "markers")
    cells = [c for c in summary.select("linear") if c.internal]
    assert marks == pytest.approx(sorted(c.metrics["aupr"].mean for c in cells))
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    expected = [tuple(b) for c in cells for b in (c.metrics["aupr"].test_images, c.metrics["aupr"].seeds_t)]
    assert sorted(tuple(t.x) for t in lines) == sorted(expected)
    assert len({trace.y[0] for trace in figure.data if trace.mode == "markers"}) == len(cells), "no two overlap"


def test_many_classes_show_those_that_differ_and_say_what_is_left_out():
    classes = tuple(f"class {i}" for i in range(9))
    runs = [made_run(checkpoint=c, classes=classes, skill=g) for c, g in (("a", 0.5), ("b", 1.5))]
    summary = summarize(runs, resamples=10)
    plot = figures.roc_curves(summary, "linear", "aptos2019", Colors(None, "ab"))
    cells = [summary.cell("linear", c, "aptos2019", "aptos2019") for c in "ab"]
    spread = {a.name: abs(a.auroc - b.auroc) for a, b in zip(cells[0].per_class, cells[1].per_class, strict=True)}
    shown = [panel.title.split(" (")[0] for panel in plot.panels]
    assert set(shown) == set(sorted(spread, key=spread.get)[-6:])
    assert shown == sorted(shown)
    assert "3 further classes" in plot.notes[0]


def test_a_class_without_test_images_has_no_curve():
    runs = [made_run(checkpoint=c, labels=[0, 1, 3, 4] * 5) for c in "ab"]
    plot = figures.pr_curves(summarize(runs, resamples=10), "linear", "aptos2019", Colors(None, "ab"))
    assert [panel.title for panel in plot.panels] == [
        f"{name} (5 test images)" for name in ("no DR", "mild", "severe", "proliferative")
    ]


def test_a_single_class_or_empty_test_set_draws_what_it_can():
    runs = [made_run(trained_on=d, tested_on=d, labels=x) for d, x in (("one", [0] * 6), ("none", []))]
    html, drawings, anchors = page_of(summarize(runs, resamples=10))
    assert anchors == ["evaluation", "internal", "calibration"]
    assert [name for name in drawings if name.startswith("calibration")] == ["calibration-plot-0"]
    assert "every test image is of class no DR" in html
    assert "there are no test images" in html


def test_a_checkpoint_keeps_its_colour(summary):
    colors = Colors("best", summary.checkpoints)
    for plot in all_plots(summary).values():
        for key in plot.keys:
            if key.label in summary.checkpoints:
                assert key.color == colors[key.label]
