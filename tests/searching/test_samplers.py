"""What the samplers of a search propose: different scales in every trial, and for "qmc" a Sobol sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import qmc

from augscale.config import StudyConfig, load_study
from augscale.runs.folders import RunFolder
from augscale.searching.space import searched
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import claim_trial, enqueue_controls, open_study

TRIALS = 20
CONTROLS = 4


def proposals(folder: Path, **settings: object) -> tuple[StudyConfig, np.ndarray]:
    """The parameters of the searched trials, each in a study that is opened anew, as by another worker."""
    config = load_study("default", {"search.trials": TRIALS} | settings)
    run = RunFolder(folder)
    run.create()
    found = []
    for number in range(TRIALS):
        study = open_study(config, sqlite_storage(run.database), "test")
        enqueue_controls(study, run, config)
        claim = claim_trial(study, run, config)
        assert claim is not None
        assert claim.number == number
        if claim.control is None:
            found.append([claim.trial.params[name] for name in searched(config)])
        study.tell(claim.trial, -float(number))
        claim.lock.release()
    return config, np.array(found)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_no_two_searched_trials_have_the_same_scales(tmp_path: Path, sampler: str) -> None:
    _, found = proposals(tmp_path, **{"search.sampler": sampler})

    assert found.shape == (TRIALS - CONTROLS, 4)
    for column in found.T:
        assert len(set(column)) == TRIALS - CONTROLS


def test_qmc_gives_the_points_of_one_scrambled_sobol_sequence(tmp_path: Path) -> None:
    config, found = proposals(tmp_path, **{"search.sampler": "qmc"})
    ranges = searched(config).values()
    unit = (found - [one.low for one in ranges]) / [one.high - one.low for one in ranges]

    # Trials 0 to 3 are controls, which use up a point each; points 4 to 19 hold four whole blocks of four.
    for block in unit.reshape(-1, 4, 4):
        for column in block.T:
            assert sorted(np.floor(4 * column)) == [0, 1, 2, 3], "one point in every quarter of every range"
    assert qmc.discrepancy(unit) < qmc.discrepancy(np.random.default_rng(0).random(unit.shape))


def test_qmc_repeats_its_points_with_the_same_seed_and_no_other(tmp_path: Path) -> None:
    first, again, other = (
        proposals(tmp_path / str(place), **{"search.sampler": "qmc", "search.seed": seed})[1]
        for place, seed in enumerate((0, 0, 1))
    )

    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()
