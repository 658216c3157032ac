import numpy as np
from scipy import stats

from augscale.seeding import counter_uniforms, derive_seed


def test_derived_seeds_depend_on_root_names_order_and_type():
    seeds = [
        derive_seed(0, "views"),
        derive_seed(1, "views"),
        derive_seed(0, "views", "order"),
        derive_seed(0, "order", "views"),
        derive_seed(0, "views", 1),
        derive_seed(0, "views", "1"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "views") == derive_seed(0, "views")


def test_a_row_depends_only_on_its_own_counter():
    together = counter_uniforms(7, [3, 1, 2], 5)
    alone = counter_uniforms(7, [1], 5)
    np.testing.assert_array_equal(together[1], alone[0])
    np.testing.assert_array_equal(counter_uniforms(7, [1], 2)[0], alone[0, :2])


def test_numbers_are_uniform_and_uncorrelated():
    draws = counter_uniforms(11, np.arange(20_000), 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(np.concatenate([draws, np.roll(draws[:, :1], 1, axis=0)], axis=1).T)
    assert np.abs(correlation - np.eye(5)).max() < 0.03


def test_seeds_that_differ_by_one_are_unrelated():
    first, second = counter_uniforms(1, np.arange(5000), 1), counter_uniforms(2, np.arange(5000), 1)
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.05


def test_no_rows_and_no_slots_give_empty_arrays():
    assert counter_uniforms(0, [], 3).shape == (0, 3)
    assert counter_uniforms(0, [1, 2], 0).shape == (2, 0)
