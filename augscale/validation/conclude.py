"""Builds the validation from the measured networks of a study: rows, correlations, regrets and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from augscale.augmentation.scales import AugmentationScales, describe
from augscale.errors import AugscaleError
from augscale.records.validation import STUDY_KEY, NetworkRow, ValidationFacts
from augscale.statistics.trial_rows import MIN_ROWS
from augscale.validation import verdict
from augscale.validation.findings import Comparison
from augscale.validation.finished_trials import KEEP_HINT, FinishedTrial
from augscale.validation.network_results import NetworkResults, StudyResults
from augscale.validation.result import Validation
from augscale.validation.score_metrics import score_metrics


def conclude(
    study: StudyResults, *, out: Path, notes: Sequence[str], bootstrap: int, resamples: int, seed: int, device: str
) -> Validation:
    """Compares scores with outcomes.

    Args:
        out: folder of the results; nothing is written here.
        notes: notes on the data.
        bootstrap, resamples: number of resamples of the trials, and of the test images.
        seed: of both.
    Raises:
        AugscaleError: too few trials have weights and did not collapse.
    """
    config = study.config
    comparison = _compare(study, bootstrap, seed)
    outcomes = comparison.outcome_columns({d.name: len(d.part("test")) for d in study.datasets})
    column = next(outcome for outcome in outcomes if outcome.key == study.primary.key)
    cells = comparison.cells()
    cell = next(c for c in cells if (c.score, c.outcome) == (STUDY_KEY, study.primary.key))
    rows = [_trial_row(study, trial) for trial in study.trials]
    rows += [_row(found, name=name, kind="reference") for name, found in study.references.items()]
    sentences = [
        verdict.regret_sentence(comparison.regret(study.primary), column),
        verdict.reference_sentence(rows, column),
        verdict.reliability_sentence(column),
        verdict.chance_sentence(comparison.table.chance, len(comparison.metrics), len(outcomes)),
    ]
    return Validation(
        out=out,
        run=str(study.run),
        study=config.name,
        score_name=config.probe.score,
        primary=study.primary.key,
        step=study.step,
        steps=config.pretrain.steps,
        headline=verdict.headline(cell, column, adaptive=study.adaptive),
        sentences=tuple(sentence for sentence in sentences if sentence),
        rows=tuple(rows),
        metrics=tuple(comparison.metrics),
        outcomes=tuple(outcomes),
        correlations=tuple(cells),
        regrets=tuple(comparison.regret_rows()),
        chance=comparison.table.chance,
        notes=tuple(dict.fromkeys([*notes, *_network_notes(study)])),
        facts=ValidationFacts(
            datasets={d.name: {"classes": list(d.classes), "counts": d.counts()} for d in study.datasets},
            protocols=tuple(protocol.name for protocol in study.protocols),
            bootstrap=bootstrap,
            seed=seed,
            panel_images=config.probe.images,
            labels_used_by_search=config.probe.labelled or (),
            device=device,
            resamples=resamples,
        ),
    )


def _compare(study: StudyResults, bootstrap: int, seed: int) -> Comparison:
    used = [
        trial for trial in study.trials if trial.record.number in study.trial_results and not trial.record.collapsed
    ]
    if len(used) < MIN_ROWS:
        raise AugscaleError(
            f"{study.run}: {len(used)} trials at step {study.step} have weights and did not collapse; expected at "
            f"least {MIN_ROWS}"
        )
    return Comparison(
        [study.trial_results[trial.record.number] for trial in used],
        [trial.record.name for trial in used],
        study.references,
        score_metrics(study.config.probe.levels),
        bootstrap=bootstrap,
        seed=seed,
    )


def _network_notes(study: StudyResults) -> list[str]:
    notes = [note for found in (*study.references.values(), *study.trial_results.values()) for note in found.notes]
    notes += [verdict.adaptive_note()] if study.adaptive else []
    shorter = [trial for trial in study.trials if trial.record.rung(study.step) is None]
    if shorter:
        notes.append(f"{len(shorter)} trials were pruned before step {study.step} and are not compared")
    if study.missing:
        count = len(study.missing)
        names = ", ".join(trial.record.name for trial in study.missing[:5]) + (", ..." if count > 5 else "")
        notes.append(f"no weights at step {study.step} of {count} trials ({names}): {KEEP_HINT}")
        kept = len(study.trial_results)
        selection = verdict.selection_note(kept, kept + count, study.config.search.keep_weights)
        notes += [selection] if selection else []
    return notes


def _trial_row(study: StudyResults, trial: FinishedTrial) -> NetworkRow:
    found, reason = study.trial_results.get(trial.record.number), ""
    if trial.record.rung(study.step) is None:
        reason = "pruned before"
    elif found is None:
        reason = "no weights"
    elif trial.record.collapsed:
        reason = "collapsed"
    scales = AugmentationScales.model_validate(trial.record.scales)
    return _row(
        found,
        name=trial.record.name,
        kind="trial",
        number=trial.record.number,
        state=trial.record.state,
        control=trial.record.control is not None,
        used=not reason,
        reason=reason,
        scales=" ".join(describe(scales, local_crops=study.config.draws_local_crops).split()),
    )


def _row(found: NetworkResults | None, **fields: str | int | bool) -> NetworkRow:
    measured = (
        {}
        if found is None
        else {
            "scores": found.scores,
            "score_interval": found.score_interval,
            "outcomes": {name.key: outcome.value for name, outcome in found.outcomes.items()},
            "outcome_intervals": {name.key: outcome.interval for name, outcome in found.outcomes.items()},
        }
    )
    return NetworkRow.model_validate(fields | measured)
