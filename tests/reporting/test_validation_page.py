"""The page of a validation: complete, escaped, drawn without an error, and plain about what it does not know."""

from __future__ import annotations

import io
import json
import re
from html import escape, unescape
from pathlib import Path

import pytest
from browser import CHROMIUM, open_page
from rich.console import Console
from validation_values import HOSTILE, made_validation

from augscale.errors import DataError
from augscale.records.validation import ValidationRecord
from augscale.reporting.shared.screen import plain_screen
from augscale.reporting.shared.style import Colors
from augscale.reporting.validation import figures
from augscale.reporting.validation.page import run_validation, write_validation_page
from augscale.reporting.validation.section import CAVEATS, validation_sections
from augscale.reporting.validation.terminal import print_validation, validation_screen

WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def values():
    return made_validation()


@pytest.fixture(scope="module")
def page(values, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "validation.html"
    return write_validation_page(path, values).read_text(encoding="utf-8")


def test_the_file_is_read_back_as_it_was_written_and_older_files_too(values, tmp_path):
    path = tmp_path / "validation.json"
    values.write(path)
    content = json.loads(path.read_text())
    assert ValidationRecord.read(path).to_dict() == values.to_dict()
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "schema"}))
    assert ValidationRecord.read(path).to_dict() == values.to_dict()


def test_the_page_says_the_verdict_first_and_every_note(values, page):
    text = unescape(re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]))
    for sentence in (values.headline, *values.sentences, *values.notes):
        assert sentence in text
    assert text.index(values.headline) < text.index("Each mark is a trial")


def test_the_page_opens_with_the_verdict_tables_and_at_most_three_notes(values, page):
    assert f"<h1>{escape(values.headline, quote=False)}</h1>" in page.replace("&#39;", "'")
    opening = page[page.index('<section id="validation">') :].split("</section>")[0]
    assert opening.index("Study") < opening.index("Networks, highest first") < opening.index('<ul class="notes">')
    first, rest = opening.split("<details>")
    assert first[first.index('<ul class="notes">') :].count("<li>") == 3
    for caveat in CAVEATS:
        assert caveat in rest
    assert values.headline not in unescape(opening), "the header has it"
    assert values.headline in unescape(validation_sections(values, {})[1])


def test_every_network_is_a_row_and_every_metric_too(values, page):
    trials = page[page.index('id="validation-trials"') :]
    for row in values.rows:
        assert f">{row.name}</td>" in trials
    table = page[page.index('id="validation-correlations"') : page.index('id="validation-regret"')]
    assert table.count('<th scope="row"') == len(values.metrics)


def test_correlations_are_printed_with_sign_and_interval(values, page):
    cell = next(c for c in values.correlations if c.spearman is not None and c.spearman_interval)
    low, high = cell.spearman_interval
    shown = f"{cell.spearman:+.2f}".replace("-", "\N{MINUS SIGN}")
    bounds = f"{low:+.2f} to {high:+.2f}".replace("-", "\N{MINUS SIGN}")
    assert f"{shown}</strong><small>{bounds}" in page or f"{shown}<small>{bounds}" in page


def test_scatter_plots_have_a_mark_per_counted_trial_and_bars_of_the_intervals(values):
    plot = figures.study_score(values, Colors(None, []))
    used = [row for row in values.rows if row.used]
    assert plot.panels[0].title.startswith("AUROC linear, mean over datasets: ρ ")
    for panel in plot.panels:
        assert len(panel.figure.data) == len(used)
        assert len(panel.figure.layout.shapes) == 3
    key, row = values.primary, used[0]
    mark = plot.panels[0].figure.data[0]
    low, high = row.outcome_intervals[key]
    assert (mark.x[0], mark.y[0]) == (row.scores["study/score"], row.outcomes[key])
    assert (mark.y[0] - mark.error_y.arrayminus[0], mark.y[0] + mark.error_y.array[0]) == pytest.approx((low, high))


def test_what_is_missing_is_left_out_and_not_an_error(values):
    rows = tuple(
        row.model_copy(
            update={
                "scores": {key: value for key, value in row.scores.items() if key != "clean/rankme"},
                "score_interval": None,
            }
        )
        for row in values.rows
    )
    metrics = tuple(metric for metric in values.metrics if metric.key != "clean/rankme")
    links, html = validation_sections(values.model_copy(update={"rows": rows, "metrics": metrics}), {})
    assert len(links) == 6
    assert "RankMe" not in html


@pytest.mark.parametrize("broken", [{}, {"rows": 3}, {"rows": [], "metrics": []}])
def test_something_else_is_refused_and_a_report_leaves_it_out(broken, tmp_path):
    with pytest.raises(DataError, match="expected what augscale validate writes"):
        ValidationRecord.parse(broken, "validation.json")
    (tmp_path / "validation.json").write_text(json.dumps(broken))
    drawings: dict[str, str] = {}
    assert run_validation(tmp_path / "validation.json", drawings) == ([], "")
    assert drawings == {}
    assert run_validation(tmp_path / "nothing.json", drawings) == ([], "")


def test_names_do_not_become_markup(tmp_path):
    hostile = made_validation(hostile=True)
    text = write_validation_page(tmp_path / "page.html", hostile).read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_verdict_metrics_networks_and_notes_in_this_order(values, tmp_path, columns):
    console = Console(force_terminal=True, width=columns, color_system=None, file=io.StringIO())
    print_validation(values, Path("out"), console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert "…" not in text
    places = [text.index(words) for words in ("Spearman", "Study's score", "raw pixels 16x16", " - ", "Page, with")]
    assert places == sorted(places)


def test_a_pipe_gets_the_same_as_ascii_lines(values):
    screen = validation_screen(values, Path("out"))
    text = plain_screen(screen)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    networks = screen.tables[1].rows
    assert [row.cells[0] for row in networks].count("untrained") == 1
    assert len(networks) == 8 + 3
    assert "without 2 more trials" in text
    assert text.index("- The score picks ") < text.index("- Correlations hold for the trials of one study")
    assert text.endswith("Data: out/validation.json")


PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const sortable = document.querySelector("table.sortable");
  sortable.querySelectorAll("th button")[3].click();
  parent.postMessage({
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    drawings: document.querySelectorAll(".drawing").length,
    drawn: [...document.querySelectorAll(".drawing")].filter((d) => d.querySelector(".point")).length,
    sorted: [...sortable.tBodies[0].rows].map((row) => row.cells[3].dataset.value),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
  }, "*");
}, 500));
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the page with")
def test_in_a_browser_everything_is_drawn_sorted_and_inside_the_window(page, tmp_path):
    pages, log = open_page(page, PROBE, tmp_path, WIDTHS)
    assert sorted(pages) == sorted(WIDTHS), log
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []
    for width, found in pages.items():
        assert found["drawn"] == found["drawings"] >= 10
        assert found["scroll"] <= width
        assert found["requests"] == []
        numbers = [float(value) for value in found["sorted"] if value]
        assert numbers == sorted(numbers, reverse=True)
