"""Confusions against a plain loop over images and views."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from augscale.diagnosis.confusions import find_confusions


def _plain(points: np.ndarray, groups: np.ndarray) -> dict[tuple[int, int], tuple[float, float]]:
    unit = points / np.linalg.norm(points, axis=-1, keepdims=True)
    num_images, num_views, _ = points.shape

    def own(i: int) -> float:
        pairs = itertools.combinations(range(num_views), 2)
        return float(np.mean([np.linalg.norm(unit[i, v] - unit[i, w]) for v, w in pairs]))

    found = {}
    for a, b in itertools.combinations(range(num_images), 2):
        distance = np.mean([np.linalg.norm(x - y) for x in unit[a] for y in unit[b]])
        limit = min(own(a), own(b))
        if groups[a] != groups[b] and distance < limit:
            found[a, b] = (float(distance), limit)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_pairs_and_distances_equal_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((14, 3, 4))
    groups = rng.integers(0, 9, 14)
    expected = _plain(points, groups)
    found = find_confusions(points, groups, most=1000, per_image=1000)
    assert {(pair.a, pair.b) for pair in found.pairs} == set(expected)
    for pair in found.pairs:
        assert (pair.distance, pair.own_distance) == pytest.approx(expected[pair.a, pair.b], rel=1e-6)
    assert found.num_pairs == len(expected)
    assert found.num_images == len({image for pair in expected for image in pair})
    ratios = [pair.distance / pair.own_distance for pair in found.pairs]
    assert ratios == sorted(ratios)


def test_well_separated_images_are_not_confused_and_patients_never():
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((6, 1, 8))
    points = centres + 0.1 * rng.standard_normal((6, 4, 8))
    assert find_confusions(points).num_pairs == 0
    noise = rng.standard_normal((6, 4, 8))
    assert find_confusions(noise, np.zeros(6)).num_pairs == 0


def test_levels_are_averaged():
    rng = np.random.default_rng(1)
    levels = rng.standard_normal((2, 8, 3, 5))
    once = [find_confusions(level, most=99, per_image=99) for level in (levels[0], levels[0])]
    both = find_confusions(np.stack([levels[0], levels[0]]), most=99, per_image=99)
    assert [(p.a, p.b) for p in both.pairs] == [(p.a, p.b) for p in once[0].pairs]
    assert [p.distance for p in both.pairs] == pytest.approx([p.distance for p in once[0].pairs])
    assert find_confusions(levels).num_pairs >= 0


def test_no_image_fills_the_list():
    points = np.random.default_rng(2).standard_normal((30, 4, 3))
    found = find_confusions(points, most=50, per_image=1)
    images = [image for pair in found.pairs for image in (pair.a, pair.b)]
    assert len(images) == len(set(images)) > 0


def test_equal_embeddings_are_no_confusion():
    assert find_confusions(np.ones((5, 3, 4))).num_pairs == 0
