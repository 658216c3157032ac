"""The whole table at once against one cell at a time, and what chance gives."""

import itertools

import numpy as np
import pytest
from scipy import stats

from augscale.statistics.correlation_table import correlation_table
from augscale.statistics.ranking import rank_correlation


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(4, 11)), 1)
    scores[2] = 1.0
    scores[3, 4] = np.nan
    outcomes = np.round(scores[:3] + rng.normal(size=(3, 11)), 1)
    draws = np.round(outcomes[:, None] + 0.3 * rng.normal(size=(3, 6, 11)), 2)
    return scores, outcomes, draws


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_every_cell_is_that_of_rank_correlation(columns, kind):
    scores, outcomes, draws = columns
    table = correlation_table(scores, outcomes, draws, bootstrap=200, seed=7)
    for k, d in itertools.product(range(2), range(3)):
        alone = rank_correlation(scores[k], outcomes[d], kind=kind, outcome_draws=draws[d], bootstrap=200, seed=7)
        low, high = (getattr(table, f"{kind}_{end}")[k, d] for end in ("low", "high"))
        assert getattr(table, kind)[k, d] == pytest.approx(alone.value, abs=1e-12)
        assert (low, high) == pytest.approx(alone.interval, abs=1e-12)


def test_constant_columns_and_columns_with_missing_values_have_no_cells(columns):
    table = correlation_table(*columns, bootstrap=50)
    for values in (table.spearman, table.kendall, table.p_values, table.kendall_low):
        assert np.isnan(values[2:]).all()
        assert np.isfinite(values[:2]).all()
    assert table.chance.cells == 6


def test_p_values_are_those_of_all_orders():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 6))
    observed = abs(stats.spearmanr(x, y).statistic)
    orders = [abs(stats.spearmanr(x, np.array(order)).statistic) for order in itertools.permutations(y)]
    exact = np.mean([rho >= observed - 1e-12 for rho in orders])
    table = correlation_table(x[None], y[None], y[None, None], bootstrap=0, permutations=20_000)
    assert table.p_values[0, 0] == pytest.approx(exact, abs=0.015)


def test_noise_gives_about_one_in_twenty_and_no_cell_stands_out():
    outstanding, observed, expected = 0, [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scores, outcomes = rng.normal(size=(20, 15)), rng.normal(size=(3, 15))
        chance = correlation_table(scores, outcomes, outcomes[:, None], bootstrap=0, permutations=300).chance
        outstanding += chance.p_value < 0.05
        observed.append(chance.observed / chance.cells)
        expected.append(chance.expected / chance.cells)
    assert outstanding <= 6
    assert np.mean(observed) == pytest.approx(0.05, abs=0.025)
    assert np.mean(expected) == pytest.approx(0.05, abs=0.01)


def test_one_real_relation_stands_out_among_many():
    rng = np.random.default_rng(2)
    scores, outcomes = rng.normal(size=(30, 25)), rng.normal(size=(4, 25))
    scores[3] = outcomes[1] + 0.2 * rng.normal(size=25)
    chance = correlation_table(scores, outcomes, outcomes[:, None], bootstrap=0, permutations=500).chance
    assert chance.largest > chance.largest_by_chance
    assert chance.p_value < 0.01


def test_columns_that_go_together_make_large_counts_likelier_but_not_the_mean():
    rng = np.random.default_rng(3)
    alike = np.repeat(rng.normal(size=(1, 15)), 40, axis=0) + 0.05 * rng.normal(size=(40, 15))
    different = rng.normal(size=(40, 15))
    outcome = rng.normal(size=(1, 15))
    together, apart = (
        correlation_table(s, outcome, outcome[:, None], bootstrap=0, permutations=1000).chance
        for s in (alike, different)
    )
    assert together.most > 2 * apart.most
    assert together.expected == pytest.approx(apart.expected, abs=0.8)


def test_three_trials_have_no_table():
    table = correlation_table(np.eye(3), np.eye(3), np.eye(3)[:, None])
    assert np.isnan(table.spearman).all()
    assert table.chance.cells == 0
