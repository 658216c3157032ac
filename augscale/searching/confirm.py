"""The best scales and the controls again, in full, on fresh seeds: the best after the search, controls as time allows.

The best of forty noisy scores is partly luck. A confirmation run repeats a contender with other initial weights,
data order and views; seed k is the same for all contenders, so they can be compared pair by pair.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from augscale.augmentation.scales import AugmentationScales
from augscale.config import SearchConfig, StudyConfig
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import RunFolder, try_lock
from augscale.searching.study import ranked, trial_scales, trials_started
from augscale.seeding import derive_seed
from augscale.settings import parse_settings


@dataclass(frozen=True, kw_only=True)
class ConfirmationRun:
    """One contender on one fresh seed."""

    name: str
    kind: str
    number: int
    scales: AugmentationScales
    seed_index: int
    seed: int
    directory: Path


def plan_confirmation(run: RunFolder, config: StudyConfig, study: optuna.Study) -> list[ConfirmationRun]:
    """The runs to do, decided once, when every trial has finished, and kept in `confirm/plan.json`.

    Contenders are the best `confirm.top_k` trials that are not controls, the controls named in `confirm.controls`
    that ran, every other control that scored above all candidates, and those of an earlier plan. Their order is seed
    by seed, so that an interrupted confirmation has complete seeds.
    """
    plan_file = run.confirm_dir / "plan.json"
    with run.locked():
        plan = read_json(plan_file)
        # What the choice depends on: with more trials, or more contenders wanted, it is made again.
        basis = {"trials": len(trials_started(study)), "top_k": config.confirm.top_k}
        seeds = max(config.confirm.seeds, plan.get("seeds", 0) if plan else 0)
        if plan is None or plan.get("seeds") != seeds or any(plan.get(name) != value for name, value in basis.items()):
            best = [trial for trial in ranked(study) if not trial.user_attrs.get("control")][: config.confirm.top_k]
            contenders = best + _controls(config, study) + _leading_controls(config, study)
            chosen = {trial.number: _contender(config, trial) for trial in contenders}
            # Whoever was confirmed before still counts, also beside a trial that came later and scored above it.
            before = [known for known in (plan or {}).get("contenders", []) if known["number"] not in chosen]
            plan = basis | {"seeds": seeds, "contenders": [*chosen.values(), *before]}
            write_json(plan_file, plan)
    return _runs(run, config, plan["contenders"], plan["seeds"])


def expected_runs(config: StudyConfig, study: optuna.Study) -> int:
    """How many runs a confirmation would have if the search ended now."""
    confirm = config.confirm
    return (confirm.top_k + len(confirm.controls) + len(_leading_controls(config, study))) * confirm.seeds


def control_runs(run: RunFolder, config: StudyConfig, study: optuna.Study) -> list[ConfirmationRun]:
    """Those of the controls that have finished: certain to be in the plan, whatever the rest of the search finds."""
    return _runs(run, config, [_contender(config, trial) for trial in _controls(config, study)], config.confirm.seeds)


def confirm_seed(search: SearchConfig, index: int) -> int:
    """The fresh seed number `index`, the same for all contenders."""
    return derive_seed(search.seed, "confirm", index)


def claim_confirmation(runs: list[ConfirmationRun]) -> tuple[ConfirmationRun, Any] | None:
    """The first run that is neither finished nor held by a living worker, with its lock."""
    for confirmation in runs:
        if is_finished(confirmation):
            continue
        lock = try_lock(confirmation.directory / "lock")
        if lock is None:
            continue
        if is_finished(confirmation):
            lock.release()
            continue
        return confirmation, lock
    return None


def is_finished(confirmation: ConfirmationRun) -> bool:
    record = read_json(confirmation.directory / "trial.json")
    return record is not None and record["state"] in ("COMPLETE", "FAIL")


def trial_name(trial: FrozenTrial) -> str:
    """How a trial is called in every table: its control's name, else its number."""
    return str(trial.user_attrs.get("control") or f"trial {trial.number}")


def _controls(config: StudyConfig, study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in ranked(study) if trial.user_attrs.get("control") in config.confirm.controls]


def _leading_controls(config: StudyConfig, study: optuna.Study) -> list[FrozenTrial]:
    """Controls that nobody asked to confirm but no candidate reaches: the answer must not pass over them."""
    before_candidates = itertools.takewhile(lambda trial: trial.user_attrs.get("control"), ranked(study))
    return [trial for trial in before_candidates if trial.user_attrs["control"] not in config.confirm.controls]


def _contender(config: StudyConfig, trial: FrozenTrial) -> dict[str, Any]:
    return {
        "name": trial_name(trial),
        "kind": "control" if trial.user_attrs.get("control") else "candidate",
        "number": trial.number,
        "scales": trial_scales(config, trial).model_dump(),
    }


def _runs(run: RunFolder, config: StudyConfig, contenders: list[dict[str, Any]], seeds: int) -> list[ConfirmationRun]:
    return [
        ConfirmationRun(
            name=contender["name"],
            kind=contender["kind"],
            number=contender["number"],
            scales=parse_settings(AugmentationScales, contender["scales"], str(run.confirm_dir / "plan.json")),
            seed_index=index,
            seed=confirm_seed(config.search, index),
            directory=run.confirm_dir / f"trial-{contender['number']:04d}-seed{index}",
        )
        for index in range(seeds)
        for contender in contenders
    ]
