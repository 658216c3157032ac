"""Every schedule over a whole run against the official formula."""

from __future__ import annotations

import dino_oracle as official
import numpy as np
import pytest

from augscale.pretrain_config import PretrainConfig
from augscale.pretraining.schedules import step_values

STEPS = 130


def _run(**settings):
    config = PretrainConfig(steps=STEPS, **settings)
    return [step_values(config, step) for step in range(STEPS)]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_learning_rate_warms_up_and_follows_the_cosine_to_an_unscaled_minimum(warmup):
    found = [v.lr for v in _run(lr=5e-4, min_lr=1e-6, batch_size=64, warmup_fraction=warmup)]
    expected = official.cosine_schedule(5e-4 * 64 / 256, 1e-6, STEPS, round(warmup * STEPS))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_learning_rate_is_not_scaled_where_the_study_says_so():
    assert max(v.lr for v in _run(lr=1e-3, batch_size=32, lr_scaling=False)) == pytest.approx(1e-3)


def test_weight_decay_follows_the_cosine():
    found = [v.weight_decay for v in _run()]
    np.testing.assert_allclose(found, official.cosine_schedule(0.04, 0.4, STEPS), rtol=1e-9)


def test_teacher_momentum_follows_the_cosine():
    found = [v.teacher_momentum for v in _run(teacher_momentum=0.99)]
    np.testing.assert_allclose(found, official.cosine_schedule(0.99, 1.0, STEPS), rtol=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_teacher_temperature_warms_up_linearly_and_stays(warmup):
    found = [v.teacher_temp for v in _run(teacher_temp_warmup_fraction=warmup, teacher_temp=0.07)]
    np.testing.assert_allclose(found, official.teacher_temps(0.04, 0.07, STEPS, round(warmup * STEPS)), rtol=1e-9)


def test_last_layer_is_frozen_for_its_share_of_the_steps():
    frozen = [v.last_layer_frozen for v in _run(freeze_last_layer_fraction=0.1)]
    assert frozen == [True] * 13 + [False] * (STEPS - 13)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_finite_schedules(steps):
    config = PretrainConfig(steps=steps, warmup_fraction=1.0, teacher_temp_warmup_fraction=1.0)
    for step in range(steps):
        values = step_values(config, step)
        assert 0 <= values.lr <= config.lr
        assert 0.04 <= values.teacher_temp <= 0.07
