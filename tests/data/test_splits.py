"""Holding out: no patient and no exact duplicate on both sides, whatever the records look like."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augscale.data.image_records import ImageRecord
from augscale.data.sources import scan_sources
from augscale.data.splits import choose_subset, hold_out, patient_groups
from augscale.errors import DataError


def _record(number: int, *, patient: str | None = None, source: str = "s", content: str | None = None) -> ImageRecord:
    return ImageRecord(
        image_id=f"{source}/{number:04d}.jpg", path=None, patient_id=patient, source=source, content=content
    )


@st.composite
def _collections(draw: st.DrawFn) -> list[ImageRecord]:
    """Two sources, patients of one to a few images, some without id, some exact duplicates."""
    number = draw(st.integers(12, 60))
    patients = st.one_of(st.none(), st.integers(0, number).map(str))
    contents = st.one_of(st.none(), st.integers(0, 3 * number).map(lambda n: f"c{n:03d}"))
    return [
        _record(i, patient=draw(patients), source=draw(st.sampled_from("ab")), content=draw(contents))
        for i in range(number)
    ]


@settings(max_examples=150, deadline=None)
@given(records=_collections(), share=st.floats(0.05, 0.5), seed=st.integers(0, 2**32))
def test_no_patient_and_no_duplicate_is_on_both_sides(records: list[ImageRecord], share: float, seed: int) -> None:
    wanted = max(1, int(share * len(records)))
    try:
        train, held_out = hold_out(records, wanted, seed)
    except DataError:
        sizes = np.bincount(patient_groups(records))
        assert sizes.max() > 1  # refused only where patients do not fit
        return
    assert sorted([*train, *held_out]) == list(range(len(records)))
    assert train.dtype == held_out.dtype == np.int64
    assert wanted / 2 <= len(held_out) <= wanted
    for name in ("patient_id", "content"):
        sides = [
            {(records[i].source if name == "patient_id" else "", getattr(records[i], name)) for i in side}
            for side in (train, held_out)
        ]
        shared = {key for key in sides[0] & sides[1] if key[1] is not None}
        assert not shared


@settings(max_examples=50, deadline=None)
@given(records=_collections(), seed=st.integers(0, 100), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(
    records: list[ImageRecord], seed: int, shuffle: random.Random
) -> None:
    mixed = list(records)
    shuffle.shuffle(mixed)
    results = []
    for rows in (records, mixed):
        try:
            results.append([[rows[i].image_id for i in side] for side in hold_out(rows, 5, seed)])
        except DataError:
            results.append([])
    assert results[0] == results[1]


def test_the_same_patient_number_in_two_sources_is_two_patients() -> None:
    groups = patient_groups([_record(0, patient="7", source="a"), _record(1, patient="7", source="b")])
    assert groups.tolist() == [0, 1]


def test_patient_groups_join_images_of_a_patient_and_exact_duplicates() -> None:
    records = [
        _record(0, patient="1"),
        _record(1),
        _record(2, patient="2", content="x"),
        _record(3, patient="1", content="x"),
        _record(4, content="y"),
        _record(5, content="y"),
    ]
    assert patient_groups(records).tolist() == [0, 1, 0, 0, 2, 2]
    assert patient_groups(records).dtype == np.int64


def test_sources_are_held_out_in_proportion() -> None:
    records = [_record(i, source="big") for i in range(800)] + [_record(i, source="small") for i in range(200)]
    _, held_out = hold_out(records, 100, 3)
    assert Counter(records[i].source for i in held_out) == {"big": 80, "small": 20}


def test_held_out_images_are_not_simply_the_first() -> None:
    records = [_record(i) for i in range(1000)]
    _, held_out = hold_out(records, 200, 0)
    rows = np.sort(held_out)
    assert abs(rows.mean() - 500) < 60
    assert set(hold_out(records, 200, 1)[1]) != set(held_out)


def test_asking_for_more_than_half_names_the_numbers() -> None:
    with pytest.raises(
        DataError, match=r"256 images are to be held out of 300; expected 1 to 150: lower probe\.images"
    ):
        hold_out([_record(i) for i in range(300)], 256, 0)


def test_patients_too_large_to_hold_out_are_refused_with_their_sizes() -> None:
    records = [_record(i, patient=str(i // 50)) for i in range(100)]
    with pytest.raises(DataError, match="2 patients have 50 to 50 images each"):
        hold_out(records, 10, 0)


def test_a_subset_has_the_number_asked_for_and_keeps_patients_together() -> None:
    records = [_record(i, patient=str(i // 3)) for i in range(90)]
    subset = choose_subset(records, 31, 0)
    assert len(subset) == 31
    whole = Counter(record.patient_id for record in subset)
    assert sorted(whole.values()) == [1] + [3] * 10
    assert subset == sorted(subset, key=lambda record: record.image_id)
    assert choose_subset(records, 90, 0) == records


def test_real_patients_stay_on_one_side(fundus_dir: Path) -> None:
    records = scan_sources([str(fundus_dir / "odir3"), str(fundus_dir / "srahim_dr")]).records
    train, held_out = hold_out(records, 256, 0)
    assert len(held_out) == 256
    patients = [{(records[i].source, records[i].patient_id) for i in side} for side in (train, held_out)]
    assert not patients[0] & patients[1]
    sources = Counter(records[i].source for i in held_out)
    assert abs(sources["odir3"] - 256 * 1659 / 2255) <= 1
