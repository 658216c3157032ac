"""Importance of the searched parameters, beside the importance that scores without meaning would show.

PED-ANOVA's importances add up to 1 whether the score depends on anything or not: with four parameters and pure noise
the largest is above one half in most searches.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from augscale.seeding import derive_seed

_FEWEST_TRIALS = 8
_SHUFFLES = 100


def parameter_importance(study: optuna.Study, names: Collection[str]) -> tuple[dict[str, float], float | None]:
    """Relative importance of each parameter among complete trials (PED-ANOVA).

    Args:
        study: whose trials are compared; those that lack one of the parameters are left out.
        names: of the parameters. Trials of earlier versions may have more, without effect.
    Returns:
        Importance by parameter, adding up to 1, and the value below which the largest stays in 95 of 100 shuffles of
        the scores among the trials. Empty and None with fewer than 8 trials, or where Optuna finds none.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in complete if set(names) <= set(trial.params)]
    if len(trials) < _FEWEST_TRIALS or not names:
        return {}, None
    scores = np.array([trial.value for trial in trials], dtype=float)
    found = _importance(trials, scores, names)
    if not found:
        return {}, None
    rng = np.random.default_rng(derive_seed(0, "importance"))
    by_chance = [
        max(_importance(trials, rng.permutation(scores), names).values(), default=0.0) for _ in range(_SHUFFLES)
    ]
    return {name: round(value, 4) for name, value in found.items()}, round(float(np.quantile(by_chance, 0.95)), 4)


def _importance(trials: Sequence[FrozenTrial], scores: np.ndarray, names: Collection[str]) -> dict[str, float]:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler())
    study.add_trials(
        [
            create_trial(
                params={name: trial.params[name] for name in names},
                distributions={name: trial.distributions[name] for name in names},
                value=float(score),
            )
            for trial, score in zip(trials, scores, strict=True)
        ]
    )
    try:
        values = optuna.importance.get_param_importances(study, params=sorted(names))
    except (ValueError, RuntimeError):
        return {}
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
