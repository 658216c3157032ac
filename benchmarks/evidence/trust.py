"""What `augscale search` says about its score, taken from the study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import augscale.searching
from augscale.config import StudyConfig
from augscale.runs.files import write_text_atomic
from benchmarks.evidence.correlations import Spread
from benchmarks.evidence.plan import CONTROLS
from benchmarks.evidence.question import by_seed, student
from benchmarks.evidence.records import MEAN, Evidence, Score
from benchmarks.evidence.settings import MeasureSettings

PROTOCOL = "linear"
"""The protocol of the first primary outcome, on test images that no network has seen."""
SCORES = ("dprime", "pair_auroc", "alpha_req")
"""What `probe.score` may be without labels."""
TRUST_FILE = Path(augscale.searching.__path__[0]) / "trust.json"


def trust(spread: Spread, study: StudyConfig, measured: MeasureSettings) -> dict[str, Any]:
    """Correlations within a seed of the scores that a search may use with the first primary outcome, as printed."""
    recipe, crops = study.pretrain, study.crops
    spearman: dict[str, dict[str, Any]] = {}
    for score in SCORES:
        spearman[score] = {}
        for dataset in spread.evidence.real_datasets:
            found = spread.within().of_score(Score(metric=score), dataset, PROTOCOL)
            if found.value is not None and found.interval is not None:
                interval = [round(edge, 2) for edge in found.interval]
                spearman[score][dataset] = {"value": round(found.value, 2), "interval": interval}
    setting = (
        f"a narrow {study.backbone.name}, {recipe.steps * recipe.batch_size:,} images at {crops.global_size} px per run"
    )
    return {
        "runs": len(spread.runs),
        "scales": len(set(spread.names)),
        "setting": setting,
        "statistics": measured.statistics,
        "gain": gain(spread.evidence),
        "spearman": spearman,
    }


def gain(evidence: Evidence) -> dict[str, Any] | None:
    """AUROC that pre-training adds to the network before it, mean of the controls and of the real datasets.

    Returns:
        value, interval (Student's over seeds, None for one), seeds. None where a control or a seed's start is missing.
    """
    start = by_seed(evidence, "untrained", MEAN, PROTOCOL)
    ends = [by_seed(evidence, name, MEAN, PROTOCOL) for name in CONTROLS]
    seeds = sorted(set(start).intersection(*ends))
    found = student([sum(end[seed] for end in ends) / len(ends) - start[seed] for seed in seeds])
    if found is None:
        return None
    interval = None if found.interval is None else [round(edge, 3) for edge in found.interval]
    return {"value": round(found.mean, 3), "interval": interval, "seeds": found.n}


def write_trust(spread: Spread, study: StudyConfig, measured: MeasureSettings, path: Path = TRUST_FILE) -> Path:
    """Writes the file that the program reads."""
    write_text_atomic(path, json.dumps(trust(spread, study, measured), indent=1) + "\n")
    return path
