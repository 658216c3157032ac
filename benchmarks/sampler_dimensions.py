"""Does a search find better scales where it does not sample parameters that have no effect? By a made-up score.

    python -m benchmarks.sampler_dimensions [--seeds 100]

The score falls with the square of the distance from one place of crop and jitter, with noise. Printed: true scores of
what a search with two parameters finds, minus those with two more that have no effect, mean over seeds with a 95 %
interval. The null is the row of 12 trials: the sampler (TPE) has learned nothing there yet.
"""

from __future__ import annotations

import argparse

import numpy as np
import optuna
from scipy import stats

from augscale.config import StudyConfig, load_study
from augscale.searching.samplers import build_sampler
from augscale.searching.space import distributions

BEST = {"global_crop_low": 0.6, "jitter": 0.25}
WIDTH = 0.8
LAST = 10


def found(config: StudyConfig, seed: int, noise: float, *, local_crops: bool) -> tuple[float, float]:
    """True score of the trial with the best noisy score, and mean true score of the last ten trials."""
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(10_000 + seed)
    config = config.model_copy(update={"search": config.search.model_copy(update={"seed": seed})})
    controls = len(config.search.controls)
    true = []
    for number in range(controls, config.search.trials):
        study.sampler = build_sampler(config, number)
        trial = study.ask()
        for name, range_ in distributions(config.space, local_crops=local_crops).items():
            trial.suggest_float(name, range_.low, range_.high)
        true.append(-sum(((trial.params[name] - best) / WIDTH) ** 2 for name, best in BEST.items()))
        study.tell(trial, true[-1] + noise * rng.normal())
    return true[study.best_trial.number], float(np.mean(true[-LAST:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| trials | SD of noise | score chosen as best | mean of the last ten trials |\n|---|---|---|---|")
    for trials in (12, 40):
        config = load_study("default", {"search.trials": trials})
        for noise in (0.05, 0.2):
            two, four = (
                np.array([found(config, seed, noise, local_crops=local) for seed in range(seeds)])
                for local in (False, True)
            )
            cells = []
            for column in (two - four).T:
                reach = stats.t.ppf(0.975, seeds - 1) * column.std(ddof=1) / np.sqrt(seeds)
                cells.append(f"{column.mean():+.3f} ({column.mean() - reach:+.3f} to {column.mean() + reach:+.3f})")
            print(f"| {trials} | {noise:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
