"""Schedules of learning rate, weight decay, teacher momentum and temperature, as pure functions of the step.

The formulas are those of the official DINO code (Caron et al. 2021, `cosine_scheduler` and `DINOLoss`), with every
warm-up counted in steps. All values change at every step; the official code changes the teacher temperature only once
per epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from augscale.pretrain_config import PretrainConfig

REFERENCE_BATCH_SIZE = 256
"""The batch size for which `lr` is stated."""


@dataclass(frozen=True, kw_only=True)
class StepValues:
    """Values of all schedules at one step."""

    lr: float
    """Learning rate of the head."""
    backbone_lr: float
    """Learning rate of the backbone; see `backbone_lr`."""
    weight_decay: float
    teacher_momentum: float
    teacher_temp: float
    last_layer_frozen: bool
    backbone_frozen: bool
    """Only the head is trained."""


def linear_warmup(step: int, start: float, end: float, warmup_steps: int) -> float:
    """Linear from `start` at step 0 to `end` at step warmup_steps - 1, then constant.

    With one step of warm-up the value at step 0 is `start`, as in numpy.linspace.
    """
    if step >= warmup_steps:
        return end
    return start + (end - start) * step / max(1, warmup_steps - 1)


def cosine_with_warmup(step: int, start: float, end: float, num_steps: int, warmup_steps: int = 0) -> float:
    """Linear warm-up from 0 to `start`, then half a cosine towards `end`, which would be reached at num_steps.

    Args:
        step: in [0, num_steps).
        start: value at the end of the warm-up.
        end: the cosine's limit.
        num_steps: steps of the whole run, warm-up included.
        warmup_steps: in [0, num_steps].
    """
    if step < warmup_steps:
        return linear_warmup(step, 0.0, start, warmup_steps)
    progress = (step - warmup_steps) / (num_steps - warmup_steps)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def peak_lr(config: PretrainConfig) -> float:
    """Learning rate at the end of the warm-up, scaled to the batch size; as in the original, `min_lr` is not scaled."""
    return config.lr * config.batch_size / REFERENCE_BATCH_SIZE if config.lr_scaling else config.lr


def backbone_lr(config: PretrainConfig, step: int, lr: float) -> float:
    """Learning rate of the backbone.

    Equals `lr`, the learning rate of the head, unless the head is trained alone first. It is 0 during those steps, then
    rises linearly from 0 to the peak in as many steps as the head's warm-up, and never exceeds `lr`.
    """
    begin = config.head_warmup_steps
    if not begin:
        return lr
    if step < begin:
        return 0.0
    rising = round(config.warmup_fraction * config.steps)
    if step >= begin + rising:
        return lr
    return min(lr, linear_warmup(step - begin, 0.0, peak_lr(config), rising))


def step_values(config: PretrainConfig, step: int) -> StepValues:
    """All schedules at one step.

    Args:
        config: recipe of the run; its fractions are shares of `config.steps`, rounded to whole steps.
        step: number of optimizer updates already done, in [0, config.steps).
    """
    steps = config.steps
    lr = cosine_with_warmup(step, peak_lr(config), config.min_lr, steps, round(config.warmup_fraction * steps))
    return StepValues(
        lr=lr,
        backbone_lr=backbone_lr(config, step, lr),
        weight_decay=cosine_with_warmup(step, config.weight_decay, config.weight_decay_end, steps),
        teacher_momentum=cosine_with_warmup(step, config.teacher_momentum, config.teacher_momentum_end, steps),
        teacher_temp=linear_warmup(
            step, config.teacher_temp_start, config.teacher_temp, round(config.teacher_temp_warmup_fraction * steps)
        ),
        last_layer_frozen=step < round(config.freeze_last_layer_fraction * steps),
        backbone_frozen=step < config.head_warmup_steps,
    )
