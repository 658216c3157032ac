"""Results of runs as `run` writes them, with scores and outcomes that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from augscale.config import load_study
from benchmarks.evidence.plan import PlannedRun, full_plan
from benchmarks.evidence.scores import METRICS

DATASETS = ("aptos2019", "odir3", "synthetic_lesions")
PROTOCOLS = ("linear", "knn", "cv")
LEVELS = ("strong@0.25", "strong@0.5", "strong", "own")
DRAWS = 20

ScoreOf = Callable[[PlannedRun, float, str, str], float]
OutcomeOf = Callable[[PlannedRun, str, str], float]


def write_results(
    out: Path,
    score: ScoreOf,
    outcome: OutcomeOf,
    plan: list[PlannedRun] | None = None,
    study_text: str = 'name = "made"\n',
) -> list[PlannedRun]:
    """Writes a folder of finished runs.

    Args:
        plan: the runs; None: those of the whole study.
        study_text: the study file.
        score: of (run, fraction, level, metric), for every layer.
        outcome: AUROC of (run, dataset, protocol); draws are equal to it.
    """
    plan = full_plan(load_study("evidence").space) if plan is None else plan
    (out / "results").mkdir(parents=True)
    (out / "study.toml").write_text(study_text)
    (out / "measure.toml").write_text("repeats = 3\n")
    for run in plan:
        fractions = (0.5, 1.0) if run.kind in ("run", "null") else (0.0,)
        rungs = [_rung(run, fraction, score, outcome) for fraction in fractions]
        record = {
            "run": run.run_id,
            "name": run.name,
            "seed": run.seed,
            "kind": run.kind,
            "parts": list(run.parts),
            "scales": None if run.scales is None else run.scales.model_dump(mode="json"),
            "state": "complete",
            "reason": None,
            "rungs": rungs,
            "seconds": 100.0,
        }
        (out / "results" / f"{run.run_id}.json").write_text(json.dumps(record))
    return plan


def _rung(run: PlannedRun, fraction: float, score: ScoreOf, outcome: OutcomeOf) -> dict[str, Any]:
    last = fraction in (0.0, 1.0)
    protocols = (*PROTOCOLS, "released") if "question" in run.parts else PROTOCOLS
    outcomes = {
        dataset: {name: {"auroc": outcome(run, dataset, name), "aupr": 0.5, "chosen": 1.0} for name in protocols}
        for dataset in DATASETS
    }
    scores = {
        layer: {level: {metric: score(run, fraction, level, metric) for metric in METRICS} for level in LEVELS}
        for layer in ("embedding", "earlier", "bottleneck")
    }
    draws = {
        dataset: {name: [round(1e4 * values["auroc"])] * DRAWS for name, values in found.items() if name in PROTOCOLS}
        for dataset, found in outcomes.items()
    }
    return {
        "step": int(240 * fraction),
        "fraction": fraction,
        "loss": 6.0,
        "information": score(run, fraction, "strong", "information"),
        "scores": {} if run.kind != "run" else scores,
        "outcomes": outcomes if last else {},
        "draws": draws if last else {},
    }
