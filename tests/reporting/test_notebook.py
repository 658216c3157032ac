"""Result objects in a notebook: a headline, a small table, the picture, a link; every value is escaped."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from augscale.augmentation.scales import PRESETS
from augscale.cli.preview import PreviewResult
from augscale.reporting.shared.notebook import notebook_html
from augscale.searching.search import SearchResult

ANSWER = {
    "best": "trial 3",
    "headline": "The scales of trial 3 keep pairs apart better than weak.",
    "contenders": [
        {
            "name": "trial 3", "kind": "best", "scales": PRESETS["strong"].model_dump(mode="json"),
            "search_score": 1.25, "confirm_mean": 1.163, "confirm_interval": [0.993, 1.334],
            "confirm_scores": [1.1, 1.163, 1.226],
        },
        {
            "name": "weak", "kind": "control", "scales": PRESETS["weak"].model_dump(mode="json"), "search_score": 1.1,
            "versus_best": {"difference": -0.1, "interval": [-0.2, -0.01], "distinguishable": True},
        },
    ],
}  # fmt: skip


def test_a_search_shows_its_headline_the_contenders_and_the_report():
    result = SearchResult(run_dir=Path("run"), scales=PRESETS["strong"], headline=ANSWER["headline"], answer=ANSWER)
    shown = result._repr_html_()
    for text in (
        "keep pairs apart better than weak",
        "40–100",
        "1.163 (0.993 to 1.334)",
        "worse by 0.100",
        "run/report.html",
    ):
        assert text in shown


def test_a_preview_shows_its_picture(tmp_path):
    path = tmp_path / "views.png"
    Image.new("RGB", (4, 4)).save(path)
    shown = PreviewResult(path=path, scales={"weak": PRESETS["weak"]}, image_ids=("a", "b"))._repr_html_()
    assert "Views of 2 images at weak" in shown
    assert 'src="data:image/png;base64,' in shown


def test_names_cannot_inject_html():
    shown = notebook_html("<b>", ("<i>",), [("<script>",)], notes=["<u>"], page=Path("<a>"))
    for text in ("<b>", "<i>", "<script>", "<u>", "<a>"):
        assert text not in shown
