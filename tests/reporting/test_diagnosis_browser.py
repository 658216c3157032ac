"""The diagnosis in a real browser: tabs, thumbnails, phones; names that try to be markup stay text."""

import pytest
from browser import CHROMIUM, open_page
from diagnosis_folder import HOSTILE, LEVELS, diagnosis, thumbnails

from augscale.records.diagnosis import DiagnosisRecord
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.page import render_diagnosis


def shown(data):
    """The content of diagnosis.json as the page shows it."""
    return displayed(DiagnosisRecord.parse(data, "diagnosis.json"))


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the page with")
WIDTHS = (360, 390, 1280)

PROBE = """
<script>
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const has = (drawing) => Boolean(drawing.querySelector("path, .point"));
addEventListener("load", async () => {
  await wait(300);
  const drawings = [...document.querySelectorAll(".drawing")];
  const visible = () => drawings.filter((drawing) => drawing.offsetParent);
  const first = visible();
  const atFirst = first.filter(has).length;

  // A point of the first map, as a mouse would meet it.
  const map = document.getElementById("maps-0-0");
  map.scrollIntoView();
  await wait(600);
  const trace = map.data.findIndex((t) => t.customdata);
  const points = [...map.querySelectorAll(".point")];
  const places = points.map((point) => {
    const box = point.getBoundingClientRect();
    return { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true, view: window };
  });
  // The one that stands most alone, since a mouse over several finds any of them.
  const alone = (at) => Math.min(...places.filter((_, i) => i !== at).map(
    (p) => Math.hypot(p.clientX - places[at].clientX, p.clientY - places[at].clientY)));
  const most = places.map((_, at) => alone(at));
  const chosen = most.indexOf(Math.max(...most));
  const place = places[chosen];
  const row = map.data[trace].customdata[chosen];
  const layer = map.querySelector(".nsewdrag");
  const peek = document.querySelector(".peek");
  const before = peek.hidden;
  // Scrolling hides what was shown, and its event may come late: a hand that moves on shows it again.
  for (let tries = 0; tries < 5 && peek.hidden; tries += 1) {
    layer.dispatchEvent(new MouseEvent("mousemove", place));
    await wait(300);
  }
  const shown = peek.getBoundingClientRect();
  const seen = {
    before, after: peek.hidden, source: peek.querySelector("img").src,
    expected: JSON.parse(document.getElementById("thumbnails-data").textContent)[row], row,
    words: peek.querySelector("figcaption").textContent, elements: peek.querySelectorAll("*").length,
    left: shown.left, right: shown.right,
  };
  layer.dispatchEvent(new MouseEvent("mouseout", { ...place, relatedTarget: document.body }));
  await wait(200);
  seen.gone = peek.hidden;
  // The same with a finger, which plotly hears as touches; the page switches dragging off on such screens.
  await Plotly.relayout(map, { dragmode: false });
  const touches = [new Touch({ identifier: 1, target: layer, clientX: place.clientX, clientY: place.clientY })];
  const touch = { bubbles: true, cancelable: true, view: window };
  layer.dispatchEvent(new TouchEvent("touchstart", { ...touch, touches, changedTouches: touches }));
  await wait(50);
  const over = document.querySelector(".dragcover") ?? layer;
  over.dispatchEvent(new TouchEvent("touchend", { ...touch, touches: [], changedTouches: touches }));
  await wait(300);
  const tapped = peek.getBoundingClientRect();
  seen.tapped = { hidden: peek.hidden, row: peek.querySelector("img").src === seen.expected, left: tapped.left,
    right: tapped.right };

  // Every tab once: all of its drawings get drawn, at the width of their place.
  const ever = new Set(first.filter(has));
  let widest = document.documentElement.scrollWidth;
  let tabs = 0;
  for (const button of document.querySelectorAll(".tabs button")) {
    button.click();
    tabs += 1;
    await wait(30);
    const panel = document.getElementById(button.getAttribute("aria-controls"));
    if (panel.hidden) throw new Error("a tab that was clicked does not show");
    visible().filter(has).forEach((drawing) => ever.add(drawing));
    widest = Math.max(widest, document.documentElement.scrollWidth);
  }
  const overflowing = drawings.filter((d) => d.offsetParent && d.querySelector("svg").clientWidth > d.clientWidth + 1);
  const gallery = [...document.querySelectorAll("img[data-image]")];
  parent.postMessage({
    width: innerWidth, scroll: widest, tabs, seen, atFirst, first: first.length,
    drawings: drawings.length, drawn: ever.size, overflowing: overflowing.length,
    gallery: gallery.length, loaded: gallery.filter((img) => img.src.startsWith("data:image/jpeg")).length,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name).filter((n) => !n.startsWith("data:")),
    hostile: document.querySelectorAll("img:not([data-image]):not(.peek img), main script").length,
  }, "*");
});
</script>
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What a page with names that try to be markup reports at each width, and the browser's log."""
    data = diagnosis(names=("run-b", "untrained", "broken"), levels=tuple(LEVELS)[:3], hostile=True)
    page = render_diagnosis(shown(data), thumbnails())
    pages, log = open_page(page, PROBE, tmp_path_factory.mktemp("browser"), WIDTHS)
    assert sorted(pages) == sorted(WIDTHS), log
    return pages, log


def test_every_drawing_is_drawn_once_its_tab_is_shown(opened):
    for found in opened[0].values():
        assert found["atFirst"] == found["first"] >= 8
        assert found["drawn"] == found["drawings"] >= 18
        assert found["overflowing"] == 0


def test_the_browser_reports_no_error_and_no_blocked_request(opened):
    assert [line for line in opened[1].splitlines() if "CONSOLE" in line] == []


def test_nothing_is_requested(opened):
    assert [name for found in opened[0].values() for name in found["requests"]] == []


def test_the_page_never_scrolls_sideways(opened):
    for width, found in opened[0].items():
        assert found["scroll"] <= width


def test_pointing_at_a_mark_shows_its_image_inside_the_window(opened):
    pages, _ = opened
    for width, found in pages.items():
        seen = found["seen"]
        assert (seen["before"], seen["after"], seen["gone"]) == (True, False, True)
        assert seen["source"] == seen["expected"]
        assert seen["source"].startswith("data:image/jpeg;base64,")
        assert 0 <= seen["left"] < seen["right"] <= width
        assert not seen["tapped"]["hidden"]
        assert seen["tapped"]["row"]
        assert 0 <= seen["tapped"]["left"] < seen["tapped"]["right"] <= width
        assert seen["words"].startswith(f"IDRiD_{seen['row']:03d}")
        assert HOSTILE in seen["words"]
        assert seen["elements"] <= 5, "picture, caption and three lines: a name makes no element"


def test_the_gallery_shows_the_thumbnails(opened):
    for found in opened[0].values():
        assert found["gallery"] == found["loaded"] == 2 * 2 * 7


def test_no_name_became_an_element(opened):
    assert all(found["hostile"] == 0 for found in opened[0].values())
