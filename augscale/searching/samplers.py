"""Which scales a search tries next: the samplers that `search.sampler` names, by Optuna."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from augscale.config import StudyConfig
from augscale.searching.space import searched
from augscale.seeding import derive_seed


class SobolSampler(optuna.samplers.QMCSampler):
    """A scrambled Sobol sequence over a space that is given.

    Optuna's own sampler takes the space from the study's first trial. Here that is a control, which has no parameters
    where it lies outside the space; then no point of the sequence would be used, and every trial would get the same
    random numbers.
    """

    def __init__(self, space: dict[str, BaseDistribution], seed: int) -> None:
        super().__init__(seed=seed, scramble=True, warn_independent_sampling=False)
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._space)


def build_sampler(config: StudyConfig, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """A sampler whose draws depend on the study's seed and the number of trials, not on the worker that asks."""
    search = config.search
    seed = derive_seed(search.seed, "sampler", trials_so_far) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if search.sampler == "qmc":
            # All workers must draw from the same sequence.
            space: dict[str, Any] = dict(searched(config))
            return SobolSampler(space, derive_seed(search.seed, "sampler") % 2**32)
        # group: controls without parameters must not empty the joint space that is modeled.
        return optuna.samplers.TPESampler(
            seed=seed,
            # Optuna counts the controls, too.
            n_startup_trials=search.startup_trials + len(search.controls),
            multivariate=True,
            group=True,
            constant_liar=True,
        )
