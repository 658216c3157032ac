import numpy as np
import pytest
from scipy import stats

from augscale.searching.answer import paired_difference, seed_interval


def test_the_interval_over_seeds_is_students():
    scores = [1.0, 1.2, 1.1, 0.9]
    expected = stats.t.interval(0.95, 3, loc=np.mean(scores), scale=stats.sem(scores))
    assert seed_interval(scores) == pytest.approx(expected)


def test_one_seed_gives_no_interval():
    assert seed_interval([1.0]) is None
    assert seed_interval([]) is None


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_without_images_the_paired_difference_is_the_paired_t_test(shift):
    rng = np.random.default_rng(0)
    scores = rng.normal(1.0, 0.1, 5)
    others = scores - shift + rng.normal(0, 0.03, 5)
    result = paired_difference(scores, others)
    reference = stats.ttest_rel(scores, others)
    assert result["interval"] == pytest.approx(list(reference.confidence_interval(0.95)))
    assert result["distinguishable"] == (reference.pvalue < 0.05)


def test_chance_in_the_images_widens_the_interval():
    rng = np.random.default_rng(1)
    scores, others = np.array([1.0, 1.1, 1.05]), np.array([0.9, 0.99, 0.96])
    noise = rng.normal(0, 0.2, (3, 500))
    narrow = paired_difference(scores, others)
    wide = paired_difference(scores, others, scores[:, None] + noise, others[:, None] + np.zeros((3, 500)))
    assert narrow["distinguishable"]
    assert not wide["distinguishable"]
    assert wide["interval"][0] < narrow["interval"][0]


def test_shared_image_noise_cancels_because_replicates_are_aligned():
    rng = np.random.default_rng(2)
    scores, others = np.array([1.0, 1.1, 1.05]), np.array([0.9, 0.99, 0.96])
    noise = rng.normal(0, 0.2, (3, 500))
    both = paired_difference(scores, others, scores[:, None] + noise, others[:, None] + noise)
    assert both["interval"] == pytest.approx(paired_difference(scores, others)["interval"])
