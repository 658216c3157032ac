"""Pairs of file names that differ in the side of the eye are named; no id is guessed."""

from pathlib import Path

import pytest

from augscale.data.image_records import ImageRecord
from augscale.data.side_names import side_hint


def records(*names, patient=None):
    return [ImageRecord(image_id=f"eyes/{name}", path=Path(name), source="eyes", patient_id=patient) for name in names]


@pytest.mark.parametrize(("left", "right"), [("_L", "_R"), ("-OS", "-OD"), ("_left", "_right"), ("l", "r")])
def test_pairs_of_sides_are_named_with_an_example_and_the_page(left, right):
    names = [f"Patient{n:03d}{side}.jpg" for n in (11, 12) for side in (right, left)]
    hint = side_hint(records(*names, "Patient013.jpg"))
    assert hint is not None
    assert hint.startswith("2 pairs of file names differ only in an ending for the side, e.g. ")
    assert f"Patient011{left}.jpg and Patient011{right}.jpg" in hint
    assert hint.endswith("(docs: tables)")


@pytest.mark.parametrize(
    "names",
    [
        ("normal.jpg", "colour.jpg", "method.jpg", "photos.jpg"),  # words that end so
        ("1_L.jpg", "2_R.jpg", "3_L.jpg", "4_R.jpg"),  # no two of one begin
        ("1_L.jpg", "1_R.jpg", "2.jpg"),  # one pair
        ("a/1_L.jpg", "b/1_R.jpg", "a/2_L.jpg", "b/2_R.jpg"),  # in different folders
        ("1_L.jpg", "1_R.jpg", "2_L.jpg", "2_R.jpg", *(f"{n}.jpg" for n in range(40))),  # few among many
    ],
)
def test_other_names_give_no_hint(names):
    assert side_hint(records(*names)) is None


def test_where_a_patient_id_is_known_there_is_no_hint():
    names = ("1_L.jpg", "1_R.jpg", "2_L.jpg", "2_R.jpg")
    assert side_hint(records(*names)) is not None
    assert side_hint(records(*names, patient="1")) is None
