import copy
import io
import json
import re

import pytest
from diagnosis_folder import HOSTILE, LEVELS, QUALITY, diagnosis, thumbnails
from page_reader import Page
from PIL import Image

from augscale.records.diagnosis import DiagnosisRecord
from augscale.reporting.diagnosis import tables as diagnosis_tables
from augscale.reporting.diagnosis import wording as diagnosis_wording
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.figures import distance_grid
from augscale.reporting.diagnosis.page import render_diagnosis, write_diagnosis


def parse_diagnosis(data):
    """The content of diagnosis.json as it is shown."""
    return displayed(DiagnosisRecord.parse(data, "diagnosis.json"))


FIGURES = ["distances.png", "distances_raw.png", "map.png", "spectrum.png"]


def written(folder, data, pictures=None):
    pictures = thumbnails(data.get("num_images", 0)) if pictures is None else pictures
    return write_diagnosis(folder, DiagnosisRecord.parse(data, "diagnosis.json"), pictures)


def page_of(folder, data, pictures=None):
    """The page alone, without the figures, which take seconds to draw."""
    pictures = thumbnails(data.get("num_images", 0)) if pictures is None else pictures
    path = folder / "page.html"
    path.write_text(render_diagnosis(parse_diagnosis(data), pictures), encoding="utf-8")
    return Page(path)


@pytest.fixture(scope="module")
def found():
    return diagnosis()


@pytest.fixture(scope="module")
def files(found, tmp_path_factory):
    return written(tmp_path_factory.mktemp("diagnosis"), found)


@pytest.fixture(scope="module")
def page(files):
    return Page(files[0])


def test_page_and_figures_are_written_and_nothing_else(files):
    assert [path.name for path in files] == ["diagnosis.html", *FIGURES]
    assert sorted(p.name for p in files[0].parent.iterdir()) == sorted(p.name for p in files)
    assert files[0].stat().st_size < 7e6


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_a_column_at_300_dpi(files, name):
    with Image.open(files[0].parent / name) as png:
        assert png.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert png.width * 25.4 / 300 == pytest.approx(85 if name == "spectrum.png" else 175, abs=0.2)
        assert png.height * 25.4 / 300 < 240
        ink = sum(count for count, color in png.convert("RGB").getcolors(1 << 24) if color != (255, 255, 255))
        assert ink > 0.01 * png.width * png.height


def test_figures_do_not_change_from_run_to_run(found, files, tmp_path):
    again = written(tmp_path, found)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in files]


def test_nothing_is_fetched_and_the_page_forbids_it(page):
    assert all(link.startswith(("#", "data:")) for link in page.links)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed")]


def test_each_thumbnail_is_in_the_page_once(page):
    pictures = thumbnails()
    assert page.source.count("data:image/jpeg;base64,") == len(pictures)
    assert sorted(map(int, page.data("thumbnails"))) == sorted(pictures)


def test_pictures_that_are_neither_jpeg_nor_png_are_left_out(tmp_path, found):
    page = page_of(tmp_path, found, {0: b"<svg onload=alert(1)>", 1: thumbnails(2)[1]})
    assert list(page.data("thumbnails")) == ["1"]


def test_the_headline_and_a_table_with_marks_stand_on_top(page):
    head = page.words[: page.words.index("Notes, and what this does not show")]
    assert "run-b has the highest pair AUROC on the ladder, but is not distinguishable from dinov2." in head
    assert re.search(r"1 run-b healthy 0\.893 0\.839 to 0\.946 1\.963 .* = ▲ – 2 dinov2 healthy", head)
    assert re.search(r"3 untrained suspicious .* ▼ ▼ –", head)
    assert "= not distinguishable (by pair AUROC)." in head
    assert "run-b untrained pair AUROC, ladder +0.200" in head, "every comparison has its numbers"


def test_every_section_and_every_link_to_it_is_there(page):
    links = [link[1:] for link in page.links if link.startswith("#")]
    anchors = [a["id"] for tag, a in page.tags if tag == "section" and "id" in a]
    assert set(links) <= set(anchors)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_health_evidence_and_advice_are_shown(found, page):
    for checkpoint in found["checkpoints"]:
        for line in [*checkpoint["health"]["evidence"], *checkpoint["health"]["advice"]]:
            assert line in page.words
    assert len(page.with_class("badge")) == 2 * len(found["checkpoints"]), "in the table and in the cards"


def test_the_papers_silhouettes_stand_under_the_silhouette_with_their_caveat(page):
    below = page.words[page.words.index("Clusters of views") :]
    assert "strong 0.117, weak 0.201, weak+med 0.130; image set, layer and distance are not stated there" in below


def test_there_is_a_metrics_table_for_the_ladder_and_each_level(page):
    assert len(page.with_class("metrics")) == 1 + len(LEVELS) + 1, "the last is of the clean images"


def test_what_was_loaded_lists_keys_that_did_not_fit(page):
    loaded = page.words[page.words.index("What was loaded") :]
    assert "60 keys missing in the file" in loaded
    assert "blocks.0.attn.qkv.weight" in loaded
    assert "18 keys matched, 12 % of the network's weights" in loaded
    assert "1 key in the file but not in the network" in loaded


def test_confusions_show_both_images_and_their_distances(found, page):
    confusions = [pair for c in found["checkpoints"] for pair in c["confusions"]]
    rows = [int(a["data-image"]) for _, a in page.tags if a.get("data-image")]
    assert rows == [row for pair in confusions for row in (pair["a"], pair["b"])]
    assert "0.400 apart, own views 0.600 at strong@0.25" in page.words
    assert "None were found." in page.words, "for the collapsed one"


def test_points_of_the_maps_carry_the_row_of_their_image(found, page):
    points = found["checkpoints"][0]["maps"]["views_tsne"]
    drawn = page.data("maps-0-0")["data"][-1]
    assert drawn["customdata"] == points["image"]
    # Views of one image look alike, and those of others differently.
    looks = {}
    for image, look in zip(
        drawn["customdata"], zip(drawn["marker"]["color"], drawn["marker"]["symbol"], strict=True), strict=True
    ):
        looks.setdefault(image, set()).add(look)
    assert all(len(found) == 1 for found in looks.values())
    assert len(set().union(*looks.values())) == len(looks)


def test_the_needle_of_a_collapsed_network_does_not_squeeze_the_axis_of_the_others(page):
    layout = page.data("distances-0-0")["layout"]
    assert layout["xaxis"]["range"][0] > 0.3
    assert any("outside: pairs at 0.01" in a["text"] for a in layout["annotations"] if "text" in a)


def test_names_labels_and_notes_are_shown_as_text(tmp_path):
    page = page_of(tmp_path, diagnosis(hostile=True))
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a) or a.get("src") == "x"]
    scripts = [a for tag, a in page.tags if tag == "script"]
    assert len(scripts) == len([a for a in scripts if a.get("type") == "application/json"]) + 2
    assert page.words.count("<script>alert(") > 20
    for name in re.findall(r'id="([\w-]+)-data"', page.source):
        text = json.dumps(page.data(name))
        if name not in ("images", "thumbnails"):
            assert "<script" not in text, "plotly reads texts as markup"
            assert "<img" not in text


def test_the_script_writes_no_markup():
    from augscale.reporting.shared import page

    scripts = [page._asset(f"{name}.js") for name in ("page", "diagnosis")]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", "".join(scripts))


def test_bytes_that_are_not_text_and_control_characters_are_replaced(tmp_path, found):
    data = copy.deepcopy(found)
    data["images"][0]["image_id"] = "a\udcff\x1b[31m.jpg"
    page = page_of(tmp_path, data)
    assert page.data("images")[0]["id"] == "a? [31m.jpg"


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ("run-b",)},
        {"names": ("broken",)},
        {"names": ("broken", "run-b")},
        {"levels": ("weak",), "confusions": 0},
        {"levels": ("strong",), "labels": False},
        {"names": tuple(f"run {i}" for i in range(9)), "levels": ("strong",)},
        {"images": 4, "names": ("run-b",)},
    ],
)
def test_less_or_more_of_everything_still_gives_all_files(tmp_path, changes):
    files = written(tmp_path, diagnosis(**changes))
    expected = ["distances.png"] if changes.get("names") != ("broken",) else []
    assert {path.name for path in files} >= {"diagnosis.html", "map.png", "spectrum.png", *expected}


def test_a_long_list_of_levels_goes_into_blocks(found):
    data = copy.deepcopy(found)
    more = [f"own of run {i}" for i in range(4)]
    data["levels"] += [{"name": name, "kind": "scales"} for name in more]
    for checkpoint in data["checkpoints"]:
        checkpoint["levels"] |= dict.fromkeys(more, checkpoint["levels"]["weak"])
    with Image.open(io.BytesIO(distance_grid(parse_diagnosis(data), raw=False))) as png:
        assert png.width < png.height


@pytest.mark.parametrize("missing", ["comparisons", "glossary", "images", "near_duplicates", "notes", "data", "levels"])
def test_a_file_without_a_part_still_gives_a_page(tmp_path, found, missing):
    data = {key: value for key, value in found.items() if key != missing}
    assert "broken collapsed" in page_of(tmp_path, data).words


def test_an_empty_file_gives_a_page_that_says_so(tmp_path):
    files = written(tmp_path, {}, {})
    assert [path.name for path in files] == ["diagnosis.html"]
    assert "No checkpoint has been diagnosed" in Page(files[0]).words


def test_one_checkpoint_is_not_called_best(tmp_path):
    page = page_of(tmp_path, diagnosis(names=("run-b",)))
    assert "run-b looks healthy." in page.words
    assert not page.with_class("best")


def test_best_is_marked_only_where_a_direction_is_known(page, found):
    parsed = parse_diagnosis(found)
    metrics = [c.levels["weak"].metrics for c in parsed.checkpoints]

    def best(key):
        meaning = parsed.meaning(key)
        return diagnosis_tables.best_columns(meaning.direction, parsed.checkpoints, [m.get(key) for m in metrics])

    assert best("dprime") == {0}
    assert best("davies_bouldin") == {0}, "the lowest"
    assert best("retrieval_error") == {0}, "the collapsed network has 0, but is never best"
    assert best("raw_positive_mean") == set()


def test_the_ladders_mean_is_taken_where_the_file_does_not_give_it(found):
    data = copy.deepcopy(found)
    for checkpoint in data["checkpoints"]:
        del checkpoint["ladder"]
    parsed = parse_diagnosis(data)
    values = [QUALITY["run-b"] * LEVELS[name] for name in ("strong@0.25", "strong@0.5", "strong")]
    assert parsed.checkpoints[0].ladder["dprime"].value == pytest.approx(sum(values) / 3)
    assert parsed.checkpoints[0].ladder["dprime"].interval is None
    assert parsed.checkpoints[3].ladder["dprime"].value is None
    assert parsed.checkpoints[3].ladder["dprime"].reason == "all embeddings are the same"


def test_a_comparison_reads_the_same_from_both_sides(found):
    parsed = parse_diagnosis(found)
    there = diagnosis_wording.comparison(parsed, "run-b", "untrained")
    back = diagnosis_wording.comparison(parsed, "untrained", "run-b")
    assert diagnosis_wording.turned(back) == there
    assert back.interval == (-there.interval[1], -there.interval[0])
    words = [diagnosis_wording.comparison_words(parsed, side) for side in (there, back)]
    assert words == ["better", "worse"]


def test_a_lower_value_is_better_where_the_glossary_says_so(found):
    entry = {"level": "ladder", "metric": "overlap", "a": "run-b", "b": "dinov2", "difference": -0.2}
    data = {**found, "comparisons": [{**entry, "interval": [-0.3, -0.1], "distinguishable": True}]}
    parsed = parse_diagnosis(data)
    assert diagnosis_wording.comparison_words(parsed, parsed.comparisons[0]) == "better"


def test_a_leader_that_beats_all_others_is_called_so(found):
    data = copy.deepcopy(found)
    for entry in data["comparisons"]:
        entry["distinguishable"] = True
    assert (
        diagnosis_wording.headline(parse_diagnosis(data)) == "run-b separates pairs best, by pair AUROC on the ladder"
    )
    del data["comparisons"]
    assert "whether the difference is due to chance was not tested" in diagnosis_wording.headline(parse_diagnosis(data))


def test_long_names_are_cut_in_the_middle_and_stay_different():
    parsed = parse_diagnosis(diagnosis(names=("run-b", "dinov2"), hostile=True))
    names = [c.name for c in parsed.checkpoints]
    assert len(set(names)) == 2
    assert all(len(name) == 41 for name in names)
    assert names[0].startswith(HOSTILE[:20])
    assert {parsed.comparisons[0].a, parsed.comparisons[0].b} == set(names)
