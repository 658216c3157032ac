"""Stratified splits: exact numbers for single images, whole groups, independence of the order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augscale.data.retinal.registry import REGISTRY
from augscale.data.splits import stratified_split

SPLITS = ("train", "val", "test")


def _split(labels, groups=None, *, counts=(60, 16, 24), seed=0, names=None):
    names = names if names is not None else [f"{i:05d}" for i in range(len(labels))]
    groups = groups if groups is not None else list(range(len(labels)))
    return stratified_split(labels, groups, names, counts=dict(zip(SPLITS, counts, strict=True)), seed=seed)


@pytest.mark.parametrize(
    "dataset", [d for d in REGISTRY if d.class_counts and sum(d.class_counts) == d.table1_total], ids=lambda d: d.name
)
def test_table_1_is_met_exactly_and_every_class_in_proportion(dataset) -> None:
    labels = np.repeat(np.arange(len(dataset.classes)), dataset.class_counts).tolist()
    found = _split(labels, counts=dataset.table1)
    assert tuple(Counter(found)[split] for split in SPLITS) == dataset.table1
    for label, size in enumerate(dataset.class_counts):
        for split, wanted in zip(SPLITS, dataset.table1, strict=True):
            here = sum(a == split and b == label for a, b in zip(found, labels, strict=True))
            assert abs(here - size * wanted / dataset.table1_total) < 1.5


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 25)), min_size=1, max_size=80),
    seed=st.integers(0, 2**32),
    shuffle=st.randoms(use_true_random=False),
)
def test_groups_stay_whole_and_the_order_of_the_images_does_not_matter(rows, seed, shuffle) -> None:
    labels, groups = zip(*rows, strict=True)
    found = _split(labels, groups, seed=seed)
    for group in set(groups):
        assert len({split for split, here in zip(found, groups, strict=True) if here == group}) == 1
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    again = _split([labels[i] for i in order], [groups[i] for i in order], seed=seed, names=[f"{i:05d}" for i in order])
    assert again == [found[i] for i in order]


@settings(max_examples=100, deadline=None)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=120), seed=st.integers(0, 1000))
def test_every_class_is_in_train_and_the_totals_are_met_where_classes_allow(labels, seed) -> None:
    found = _split(labels, seed=seed)
    in_train = {label for label, split in zip(labels, found, strict=True) if split == "train"}
    assert in_train == set(labels)
    sizes = Counter(found)
    if min(Counter(labels).values()) >= 4:
        assert abs(sizes["test"] - 0.24 * len(labels)) < 1
        assert abs(sizes["val"] - 0.16 * len(labels)) < 1


def test_pairs_of_eyes_meet_the_numbers_within_a_pair() -> None:
    rng = np.random.default_rng(0)
    first = rng.choice(3, 244, p=[0.68, 0.14, 0.18])
    second = np.where(rng.random(244) < 0.85, first, rng.integers(0, 3, 244))
    labels = np.stack([first, second], axis=1).ravel().tolist()
    groups = np.repeat(np.arange(244), 2).tolist()
    found = Counter(_split(labels, groups, counts=(312, 79, 98)))
    assert abs(found["test"] - 98) <= 1
    assert abs(found["val"] - 79) <= 1
    by_class = Counter(zip(labels, _split(labels, groups, counts=(312, 79, 98)), strict=True))
    for label in range(3):
        total = labels.count(label)
        assert abs(by_class[label, "test"] - total * 98 / 489) <= 2


def test_seeds_differ_and_the_first_images_are_not_simply_the_test_set() -> None:
    labels = [0] * 500 + [1] * 500
    a, b = _split(labels, seed=0), _split(labels, seed=1)
    assert a == _split(labels, seed=0)
    assert 0.4 < np.mean(np.array(a) == np.array(b)) < 0.6
    assert abs(np.flatnonzero(np.array(a)[:500] == "test").mean() - 250) < 40


def test_nothing_to_split() -> None:
    assert _split([]) == []
