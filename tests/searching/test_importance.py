import numpy as np
import optuna
import pytest

from augscale.searching.importance import parameter_importance

NAMES = ("a", "b", "c", "d")


def _study(score, trials: int = 36) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    rng = np.random.default_rng(2)
    study.optimize(lambda trial: score([trial.suggest_float(name, 0, 1) for name in NAMES], rng), n_trials=trials)
    return study


def test_a_parameter_that_decides_is_beyond_chance_and_the_values_are_optunas():
    study = _study(lambda values, rng: values[2] + 0.01 * rng.normal())
    importance, by_chance = parameter_importance(study)
    assert importance == pytest.approx(optuna.importance.get_param_importances(study), abs=1e-4)
    assert max(importance, key=importance.get) == "c"
    assert importance["c"] > by_chance


def test_noise_has_importances_that_add_up_to_one_and_are_within_chance():
    importance, by_chance = parameter_importance(_study(lambda values, rng: rng.normal()))
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)
    assert 0.5 < by_chance < 1
    assert max(importance.values()) < by_chance


def test_too_few_trials_or_equal_scores_have_none():
    assert parameter_importance(_study(lambda values, rng: rng.normal(), trials=7)) == ({}, None)
