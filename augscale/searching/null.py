"""The null of a search: control scales with learning rate 0, everything else the same, through the same code.

Such a run ends with the weights that it began with, so it must score what the network before training scores. What it
scores beyond that comes from something that is not learning, e.g. statistics gathered on the run's own views, and is
taken off before anything is said to be learned.
"""

from __future__ import annotations

from typing import Any

from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching.confirm import ConfirmationRun
from augscale.seeding import derive_seed

TOLERANCE = 1e-3
"""In units of the score; a null run is as good as equal within it. d' and the areas are printed to this digit."""


def null_config(config: StudyConfig) -> StudyConfig:
    """The study with learning switched off."""
    recipe = config.pretrain.model_copy(update={"lr": 0.0, "min_lr": 0.0})
    return config.model_copy(update={"pretrain": recipe})


def null_runs(run: RunFolder, config: StudyConfig) -> list[ConfirmationRun]:
    """The null runs of a search: the first `search.null_trials` controls, on the seed of the trials."""
    return [
        ConfirmationRun(
            name=control,
            kind="null",
            number=number,
            scales=load_scales(control),
            seed_index=0,
            seed=derive_seed(config.search.seed, "trials"),
            directory=run.null_dir / f"{number:04d}",
        )
        for number, control in enumerate(config.search.controls[: config.search.null_trials])
    ]


def null_facts(run: RunFolder, config: StudyConfig, untrained: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the null runs scored; None where there are none.

    Args:
        untrained: content of untrained.json.
    Returns:
        runs: name, state and score of each. untrained: score of the network that they began with. shift: the largest
        score of a null run minus that, None where none has ended. still: whether every run ended within `TOLERANCE`.
    """
    runs = []
    for null in null_runs(run, config):
        record = read_json(null.directory / "trial.json") or {}
        final = record.get("final") or {}
        runs.append({"name": null.name, "state": record.get("state", "missing"), "score": final.get("score")})
    if not runs:
        return None
    start = untrained["score"] if untrained else None
    scores = [entry["score"] for entry in runs if entry["state"] == "COMPLETE" and entry["score"] is not None]
    shifts = [score - start for score in scores] if start is not None else []
    return {
        "runs": runs,
        "untrained": start,
        "shift": max(shifts) if shifts else None,
        "still": len(shifts) == len(runs) and all(abs(shift) <= TOLERANCE for shift in shifts),
    }


def not_learned(null: dict[str, Any] | None) -> float:
    """What a trial's score gains without learning, in units of the score; 0 where the null runs stood still."""
    if null is None or null["still"] or null["shift"] is None:
        return 0.0
    return max(0.0, float(null["shift"]))


def null_sentence(null: dict[str, Any] | None, score: str) -> str:
    """What the null runs say, in one sentence."""
    if null is None:
        return (
            "Learning was switched off in no run (search.null_trials = 0): what moves the score besides is not known."
        )
    ended = [entry for entry in null["runs"] if entry["score"] is not None]
    if not ended or null["untrained"] is None:
        return "No run with learning switched off has ended: what moves the score besides learning is not known."
    scores = ", ".join(f"{entry['name']} {entry['score']:.3f}" for entry in ended)
    start = f"the network before training {null['untrained']:.3f}"
    if null["still"]:
        return f"With learning switched off the score stays where it begins ({score}: {scores}, {start})."
    return (
        f"With learning switched off the score moves ({score}: {scores}, {start}): part of the differences between "
        "scales is not learning, and the gain over the network before training is counted without it."
    )
