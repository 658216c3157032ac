import numpy as np
import pytest
from scipy import stats

from augscale.statistics import paired_comparisons as comparisons
from augscale.statistics.intervals import seed_interval_t
from augscale.statistics.paired_comparisons import differences_to


def _by_seed(rows):
    return [dict(enumerate(map(float, row))) for row in rows]


def test_the_interval_over_seeds_is_students():
    scores = [1.0, 1.2, 1.1, 0.9]
    expected = stats.t.interval(0.95, 3, loc=np.mean(scores), scale=stats.sem(scores))
    assert seed_interval_t(scores) == pytest.approx(expected)


def test_one_seed_gives_no_interval():
    assert seed_interval_t([1.0]) is None
    assert seed_interval_t([]) is None
    assert differences_to(0, [{0: 1.0}, {0: 2.0}]) == [None, None]
    assert differences_to(0, [{0: 1.0, 1: 1.0}, {1: 2.0, 2: 1.0}]) == [None, None]


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_two_contenders_without_images_are_compared_as_by_the_paired_t_test(shift):
    rng = np.random.default_rng(0)
    scores = rng.normal(1.0, 0.1, 5)
    others = scores - shift + rng.normal(0, 0.03, 5)
    none, result = differences_to(0, _by_seed([others, scores]))
    reference = stats.ttest_rel(scores, others)
    assert none is None
    assert result["difference"] == pytest.approx(np.mean(scores - others))
    assert result["interval"] == pytest.approx(list(reference.confidence_interval(0.95)))
    assert result["distinguishable"] == (reference.pvalue < 0.05)


def test_many_contenders_are_compared_as_by_tukey_with_seeds_as_blocks():
    """q = 4.90 (4 contenders, 6 degrees of freedom) is from the table of the studentised range; the residual is that of
    a two-way layout. A pair whose own differences vary more keeps its own variance."""
    rng = np.random.default_rng(4)
    table = rng.normal(0, 5, (1, 3)) + rng.normal(0, 0.1, (4, 3)) + np.array([[0.0], [1.0], [2.0], [3.0]])
    contenders, seeds = np.eye(4).repeat(3, axis=0), np.tile(np.eye(3), (4, 1))
    _, (squares,), *_ = np.linalg.lstsq(np.hstack([contenders, seeds[:, 1:]]), table.ravel(), rcond=None)
    for i, found in enumerate(differences_to(3, _by_seed(table))):
        if i == 3:
            assert found is None
            continue
        own = np.var(table[i] - table[3], ddof=1)
        half = 4.90 / np.sqrt(2) * np.sqrt(max(2 * squares / 6, own) / 3)
        assert found["interval"] == pytest.approx([np.mean(table[i] - table[3]) + s * half for s in (-1, 1)], abs=2e-3)


def test_among_equal_contenders_the_best_is_rarely_called_better():
    """The best of four compared by single t-tests would be called better than another in a fifth of all searches."""
    rng = np.random.default_rng(3)
    wrong, searches = 0, 500
    for _ in range(searches):
        scores = rng.normal(0, 1, (1, 3)) + rng.normal(0, 0.2, (4, 3))
        versus = differences_to(int(scores.mean(axis=1).argmax()), _by_seed(scores))
        wrong += any(v["distinguishable"] for v in versus if v)
    assert wrong / searches < 0.06


def test_a_contender_without_a_seed_is_compared_on_those_it_has():
    full, part = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1}
    lower = {0: 0.5, 1: 0.61, 2: 0.69}
    found = differences_to(0, [full, part, lower])
    assert found[1]["difference"] == pytest.approx(1.0)
    assert found[2]["difference"] == pytest.approx(-0.5)
    alone = differences_to(0, [full, part])[1]
    assert alone["difference"] == pytest.approx(1.0)


def test_chance_in_the_images_widens_the_interval_and_what_both_share_cancels():
    rng = np.random.default_rng(1)
    scores = np.array([[1.0, 1.1, 1.05], [0.9, 0.99, 0.96]])
    noise, nothing = rng.normal(0, 0.2, (3, 500)), np.zeros((3, 500))

    def versus(*noises):
        return differences_to(1, _by_seed(scores), [dict(enumerate(n.tolist())) for n in noises])[0]

    narrow = differences_to(1, _by_seed(scores))[0]
    wide = versus(noise, nothing)
    assert narrow["distinguishable"]
    assert not wide["distinguishable"]
    assert wide["interval"][0] < narrow["interval"][0]
    assert versus(noise, noise)["interval"] == pytest.approx(narrow["interval"])
    expected = stats.t.ppf(0.975, 2) ** 2 * (np.var(scores[0] - scores[1], ddof=1) / 3 + np.var(noise.mean(0), ddof=1))
    assert (wide["interval"][1] - wide["difference"]) ** 2 == pytest.approx(expected)
    without = [{0: [], 1: [], 2: []}, {}]
    assert differences_to(1, _by_seed(scores), without)[0] == narrow


def test_the_quantile_is_that_of_published_tables():
    for contenders, freedom, q in ((3, 4, 5.04), (4, 6, 4.90), (9, 16, 5.03)):
        assert comparisons._quantile(contenders, freedom) * np.sqrt(2) == pytest.approx(q, abs=0.006)
