"""Made content of a validation.json: trials whose score goes with the outcome, references, and one trial left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from augscale.records.validation import STUDY_KEY, NetworkRow, ValidationFacts
from augscale.validation.findings import Comparison
from augscale.validation.network_results import NetworkResults
from augscale.validation.outcomes import METRICS, Outcome, OutcomeName
from augscale.validation.result import Validation
from augscale.validation.score_metrics import score_metrics
from augscale.validation.verdict import chance_sentence, headline, reference_sentence, regret_sentence

HOSTILE = "<script>alert('x')</script>&"
LEVELS = ("mild", "strong")


def _measured(quality: float, rng: np.random.Generator, datasets: tuple[str, ...]) -> NetworkResults:
    scores: dict[str, float | None] = {m.key: quality + 0.3 * rng.normal() for m in score_metrics(LEVELS)}
    outcomes = {}
    for dataset in (*datasets, "mean"):
        for metric in METRICS:
            value = 0.7 + 0.03 * quality + 0.01 * rng.normal()
            outcomes[OutcomeName(dataset=dataset, protocol="linear", metric=metric)] = Outcome(
                value=value, draws=value + 0.01 * rng.normal(size=40), halves=value + 0.01 * rng.normal(size=(20, 2))
            )
    score = scores[STUDY_KEY] or 0.0
    return NetworkResults(scores=scores, score_interval=(score - 0.2, score + 0.2), outcomes=outcomes, notes=())


def made_validation(*, hostile: bool = False, seed: int = 0) -> Validation:
    """The result of a validation, not yet written."""
    rng = np.random.default_rng(seed)
    datasets = ("eyes", HOSTILE if hostile else "more eyes")
    names = ["strong", "weak", *(HOSTILE + str(i) if hostile else f"trial {i}" for i in range(2, 10))]
    measured = [_measured(float(rng.normal()), rng, datasets) for _ in names]
    references = {
        name: _measured(-1.0, rng, datasets) for name in ("untrained", "raw pixels 16x16", "colour statistics")
    }
    comparison = Comparison(measured, names, references, score_metrics(LEVELS), bootstrap=100, seed=0)
    primary = OutcomeName(dataset="mean", protocol="linear", metric="auroc")
    outcomes = comparison.outcome_columns(dict.fromkeys(datasets, 100))
    column = next(o for o in outcomes if o.key == primary.key)
    cells = comparison.cells()
    rows = [
        _row(name, "trial", found, control=name in ("strong", "weak"))
        for name, found in zip(names, measured, strict=True)
    ]
    rows.append(_row("trial 10", "trial", None))
    rows += [_row(name, "reference", found) for name, found in references.items()]
    return Validation(
        out=Path("out"),
        run="run",
        study=HOSTILE if hostile else "made",
        score_name="dprime",
        primary=primary.key,
        step=60,
        steps=240,
        headline=headline(next(c for c in cells if (c.score, c.outcome) == (STUDY_KEY, primary.key)), column),
        sentences=[
            regret_sentence(comparison.regret(primary), column),
            reference_sentence(rows, column),
            chance_sentence(comparison.table.chance, len(comparison.metrics), len(outcomes)),
        ],
        rows=rows,
        metrics=comparison.metrics,
        outcomes=outcomes,
        correlations=cells,
        regrets=comparison.regret_rows(),
        chance=comparison.table.chance,
        notes=[HOSTILE if hostile else "no weights at step 60 of 1 trials (trial 10)"],
        facts=ValidationFacts(
            datasets={d: {"classes": ["a", "b"], "counts": {"test": {"a": 50, "b": 50}}} for d in datasets},
            protocols=["linear"],
            bootstrap=100,
            resamples=40,
            seed=0,
            labels_used_by_search=[],
            device="cpu",
        ),
    )


def _row(name: str, kind: str, found: NetworkResults | None, *, control: bool = False) -> NetworkRow:
    return NetworkRow(
        name=name,
        kind=kind,
        number=None,
        state="COMPLETE" if kind == "trial" else "",
        control=control,
        used=kind == "trial" and found is not None,
        reason="no weights" if found is None else "",
        scales="global 40 to 100 %",
        scores=found.scores if found else {},
        score_interval=found.score_interval if found else None,
        outcomes={name.key: o.value for name, o in found.outcomes.items()} if found else {},
        outcome_intervals={name.key: o.interval for name, o in found.outcomes.items()} if found else {},
    )
