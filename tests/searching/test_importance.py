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
    importance, by_chance = parameter_importance(study, NAMES)
    assert importance == pytest.approx(optuna.importance.get_param_importances(study), abs=1e-4)
    assert max(importance, key=importance.get) == "c"
    assert importance["c"] > by_chance


def test_noise_has_importances_that_add_up_to_one_and_are_within_chance():
    importance, by_chance = parameter_importance(_study(lambda values, rng: rng.normal()), NAMES)
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)
    assert 0.5 < by_chance < 1
    assert max(importance.values()) < by_chance


def test_too_few_trials_or_equal_scores_have_none():
    assert parameter_importance(_study(lambda values, rng: rng.normal(), trials=7), NAMES) == ({}, None)


def test_parameters_without_effect_that_trials_of_earlier_versions_have_are_left_out():
    study = _study(lambda values, rng: values[2] + 0.01 * rng.normal(), trials=12)
    four, _ = parameter_importance(study, NAMES)
    two, by_chance = parameter_importance(study, ("b", "c"))
    assert set(four) == set(NAMES)
    assert set(two) == {"b", "c"}
    assert sum(two.values()) == pytest.approx(1, abs=1e-3)
    assert by_chance is not None
    # Newer trials of the same study lack the others, and count all the same.
    study.optimize(lambda trial: trial.suggest_float("b", 0, 1) + trial.suggest_float("c", 0, 1), n_trials=6)
    assert set(parameter_importance(study, ("b", "c"))[0]) == {"b", "c"}
    assert parameter_importance(study, ("b", "c"))[0] != two
    assert parameter_importance(study, ()) == ({}, None)
