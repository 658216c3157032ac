"""The page in a real browser: it draws, sorts, stays inside narrow screens and asks the network for nothing."""

import shutil

import pytest
from browser import CHROMIUM, open_page

from augscale.reporting.search.report import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the report with")
WIDTHS = (360, 390, 1280)

PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const rows = () => [...document.querySelectorAll("table.trials tbody tr")];
  const numbers = () => rows().map((row) => row.cells[0].dataset.value);
  const click = (column) => document.querySelectorAll("table.trials th button")[column].click();
  click(2);
  const byScore = numbers();
  click(2);
  const byScoreAgain = numbers();
  const labels = [...document.querySelectorAll(".annotation-text")].map((t) => t.getBoundingClientRect().right);
  parent.postMessage({
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    drawings: document.querySelectorAll(".drawing").length,
    drawn: [...document.querySelectorAll(".drawing")].filter((d) => d.querySelector("path, .point")).length,
    rightmost: Math.max(...labels),
    byScore, byScoreAgain,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
  }, "*");
}, 500));
</script>
"""


@pytest.fixture(scope="module")
def opened(finished_folder, tmp_path_factory):
    """What a page of each width reports about itself, and the browser's log."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(finished_folder, folder / "run")
    page = write_report(folder / "run").read_text(encoding="utf-8")
    return open_page(page, PROBE, folder, WIDTHS)


def test_every_figure_is_drawn_at_every_width(opened):
    pages, _ = opened
    assert sorted(pages) == sorted(WIDTHS)
    for found in pages.values():
        assert found["drawings"] >= 14
        assert found["drawn"] == found["drawings"]


def test_the_browser_reports_no_error_and_no_blocked_request(opened):
    _, log = opened
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


def test_nothing_is_requested(opened):
    pages, _ = opened
    assert [name for found in pages.values() for name in found["requests"]] == []


def test_the_page_does_not_scroll_sideways_on_a_phone(opened):
    pages, _ = opened
    for width, found in pages.items():
        assert found["scroll"] <= width


def test_labels_on_figures_stay_on_the_page(opened):
    pages, _ = opened
    for width, found in pages.items():
        assert found["rightmost"] <= width


def test_a_click_sorts_trials_by_score_and_another_turns_it_round(opened, finished):
    pages, _ = opened
    scored = [t for t in finished.trials if t.last_score is not None]
    falling = [str(t.number) for t in sorted(scored, key=lambda t: -t.last_score)]
    found = pages[1280]
    assert found["byScore"][: len(scored)] == falling
    assert found["byScoreAgain"][: len(scored)] == falling[::-1]
