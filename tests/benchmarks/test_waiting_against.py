"""What the comparison with an older commit says of results that differ."""

from __future__ import annotations

from benchmarks.waiting_against import compared


def test_words_are_counted_and_each_number_that_differs_much_is_listed() -> None:
    before = {"a.name": "old", "a[0].x": 1.0, "a[1].x": 1.0, "a[2].x": 1.0, "b": 5, "gone": 1}
    after = {"a.name": "new", "a[0].x": 1.0, "a[1].x": 1.1, "a[2].x": 1.00001, "b": 5}
    assert compared("first", before, after).splitlines() == [
        "first: 5 values on both sides; 1 differ in words or type, 2 numbers differ, 1 by more than 0.1 %; "
        "1 only in old, 0 only in new",
        "    1 x a[].x",
        "    a[1].x: 1.0 -> 1.1",
    ]
    assert "0 numbers differ" in compared("first", before, before)
