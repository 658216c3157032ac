"""What `augscale search` says about its score: the row of a study in `trust.json`, taken from the study's results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import augscale.searching
from augscale.config import StudyConfig, load_study
from augscale.pretrain_config import METHOD_NAMES
from augscale.runs.files import read_json, write_text_atomic
from augscale.searching.trust import regime_of
from benchmarks.evidence.correlations import DEFAULT, Spread
from benchmarks.evidence.label_tables import ranked
from benchmarks.evidence.methods import FOLDER, read_methods
from benchmarks.evidence.plan import CONTROLS
from benchmarks.evidence.question import by_seed, student
from benchmarks.evidence.records import CROP_LADDER, CROP_LADDER_LEVEL, MEAN, Evidence, Score
from benchmarks.evidence.settings import MeasureSettings, load_settings

PROTOCOL = "cv"
"""Of the protocols named beforehand the one with the least noise, and that of the evidence pages' first tables."""
SCORES = ("dprime", "pair_auroc", "alpha_req")
"""What `probe.score` may be without labels."""
PAIR_SCORES = ("dprime", "pair_auroc")
LABELS = 50
"""Number of labelled images whose score is named beforehand (issue of the second study)."""
REGIME = ("init", "method", "network", "images", "size")
"""What tells two rows apart."""
TRUST_FILE = Path(augscale.searching.__path__[0]) / "trust.json"


def trust(spread: Spread, study: StudyConfig, measured: MeasureSettings) -> dict[str, Any]:
    """The row of a study, figures as printed.

    Correlations are within a seed, of the scores that a search may use, with `PROTOCOL`; panels: the same of another
    panel than the default, by its levels; labels: what a
    score from `LABELS` labelled images reached on the other images, if the study has that.
    """
    regime = regime_of(study)
    narrow = "narrow " if study.backbone.overrides else ""
    network = f"{narrow}{regime['network']}, {regime['images']:,} images at {regime['size']} px per run"
    setting = f"{METHOD_NAMES[regime['method']]}, a {network}"
    return regime | {
        "runs": len(spread.runs),
        "scales": len(set(spread.names)),
        "setting": setting,
        # With "frozen" all networks have those of the weights that they began with.
        "statistics": "weights" if study.pretrain.batch_norm == "frozen" else measured.statistics,
        "gain": gain(spread.evidence),
        "spearman": {score: correlations(spread, Score(metric=score)) for score in SCORES},
        "panels": {
            ",".join(CROP_LADDER): {
                score: correlations(spread, Score(metric=score, level=CROP_LADDER_LEVEL)) for score in PAIR_SCORES
            }
        },
        "labels": few_labels(spread),
    }


def correlations(spread: Spread, score: Score) -> dict[str, dict[str, Any]]:
    """Rank correlation of a score with accuracy within a seed, by real dataset: value and interval, as printed."""
    found = {}
    for dataset in spread.evidence.real_datasets:
        one = spread.within().of_score(score, dataset, PROTOCOL)
        if one.value is not None and one.interval is not None:
            found[dataset] = {"value": round(one.value, 2), "interval": [round(edge, 2) for edge in one.interval]}
    return found


def few_labels(spread: Spread) -> dict[str, Any] | None:
    """How the score from `LABELS` labelled images ranks scales, beside pair AUROC; None where a study has none.

    Judged by accuracy (ridge regression) on the other images, of the other seed: a network's own chance does not count.

    Returns:
        images; spearman and without_labels: rank correlations by dataset.
    """
    found = {
        key: {
            dataset: round(one.correlation, 2)
            for dataset in spread.evidence.real_datasets
            if (one := ranked(spread, name, dataset, LABELS, other_seed=True)) is not None
        }
        for key, name in (("spearman", "labels"), ("without_labels", DEFAULT.label))
    }
    return {"images": LABELS, **found} if found["spearman"] else None


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
    """Writes the study's row into the file that the program reads; rows of other regimes are kept."""
    row = trust(spread, study, measured)
    known = (read_json(path) or {}).get("regimes", [])
    others = [other for other in known if any(other[name] != row[name] for name in REGIME)]
    write_text_atomic(path, json.dumps({"regimes": [*others, row]}, indent=1) + "\n")
    return path


def write_method_rows(folder: Path, bootstrap: int, path: Path = TRUST_FILE) -> Path:
    """Writes the rows of the methods that were compared with the study's own, from two seeds of each."""
    methods = read_methods(folder, bootstrap)
    for file in sorted((folder / FOLDER).glob("*/study.toml")):
        study = load_study(str(file))
        if study.pretrain.method != next(iter(methods.evidence)):
            measured = load_settings(file.parent / "measure.toml")
            write_trust(methods.spread(study.pretrain.method), study, measured, path)
    return path
