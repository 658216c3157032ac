"""`augscale.validate(...)`: do the trials that a study's score prefers also do better on labelled data?

Trials are compared at equal steps. Weights are those that the search kept; what is missing can be made again. What was
computed is kept under what it was made from, so that the same call goes on where it was interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from augscale.augmentation.scales import AugmentationScales, describe
from augscale.config import StudyConfig
from augscale.errors import AugscaleError, ConfigError, InterruptedRun, Paused
from augscale.evaluation.datasets import LabelledImages
from augscale.evaluation.evaluate import MARGIN, open_datasets
from augscale.evaluation.interface import Encoder, Progress
from augscale.evaluation.jobs import FROZEN
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.protocols import make_protocols
from augscale.evaluation.seen_images import cached_contents, seen_notes
from augscale.pretraining.student_teacher import build_networks
from augscale.records.manifest import ManifestRecord
from augscale.runs.files import write_json, write_text_atomic
from augscale.runs.folders import RunFolder, writable_folder
from augscale.searching.prepare import refuse_own_statistics
from augscale.searching.search import read_run
from augscale.searching.trial import TrialContext, build_context
from augscale.seeding import derive_seed
from augscale.statistics.ranking import BOOTSTRAP, MIN_ROWS
from augscale.system.devices import resolve_device
from augscale.system.signals import StopFlag
from augscale.validation import verdict
from augscale.validation.baselines import baseline_encoders
from augscale.validation.findings import STUDY_KEY, Comparison, correlations_csv, networks_csv, regrets_csv
from augscale.validation.measuring import Measured, Measuring
from augscale.validation.networks import KEEP_HINT, FinishedTrial, choose_rung, finished_trials, load_encoder
from augscale.validation.outcomes import MEAN, OutcomeName
from augscale.validation.remake import remake_rung
from augscale.validation.result import NetworkRow, Validation
from augscale.validation.score_metrics import score_metrics

DEFAULT_PROTOCOLS = ("linear", "knn")
RESAMPLES = 500
UNTRAINED = "untrained"
FOLDER = "validation"


def validate(
    run_dir: str | Path,
    *,
    datasets: str | Path | Sequence[str | Path] = "all",
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    rung: int | None = None,
    remake: bool = False,
    config: ProtocolConfig | None = None,
    crop_to_field: bool | None = None,
    data_root: Path | None = None,
    bootstrap: int = BOOTSTRAP,
    resamples: int = RESAMPLES,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    unlabelled: Collection[str] = (),
    on_progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Validation:
    """Evaluates the finished trials of a study on labelled data and compares their ranks with those of every score.

    Args:
        run_dir: folder of a search; it may still be running.
        datasets: see `evaluate`; test images judge, train and val images train and choose the classifiers.
        protocols: of "linear", "knn" and "released" (seed 0); the first is the one that the headline is about.
        rung: step at which trials are compared; None: the last rung that more than half of the trials reached.
        remake: train trials whose weights are missing again, up to the rung.
        config: settings of the protocols; None takes the papers', with the study's views.
        crop_to_field: cut photographs to the field of view; None does as the study did.
        data_root, cache_root, allow_bad, unlabelled: see `evaluate`.
        bootstrap: resamples of trials for the intervals; 0 for none.
        resamples: of the test images; the intervals cover both.
        seed: of all resamples.
        device: "auto", "cpu", "cuda" or "cuda:N".
        out: folder for validation.json, the tables and validation.html; None is RUN/validation.
        on_progress: called with (what, done, total).
        say: called with the classes of each dataset and their counts, before anything is embedded.
    Raises:
        ConfigError: not a run, no such rung, or too few trials with weights; nothing has been computed.
        DataError: a dataset cannot be used.
        StudyError: a trial that was made again is not the one recorded.
        InterruptedRun: a signal came; what was computed is kept.
    """
    _check(protocols, bootstrap, resamples)
    run, study_config, study = read_run(run_dir)
    manifest = ManifestRecord.read(run.manifest_file)
    refuse_own_statistics(run, manifest, study_config)
    trials = finished_trials(run, study)
    step = choose_rung(trials, study_config, rung, remake=remake)
    folder = writable_folder(run.path / FOLDER if out is None else Path(out))
    size = study_config.crops.global_size
    met = cached_contents(manifest.cache)
    settings = (config or ProtocolConfig()).model_copy(update={"view_size": size, "seeds": 1})
    opened, notes = open_datasets(
        datasets,
        size=round(MARGIN * size),
        data_root=data_root,
        crop_to_field=study_config.data.crop_to_field if crop_to_field is None else crop_to_field,
        grey_range=study_config.data.range,
        cache_root=cache_root,
        allow_bad=allow_bad,
        unlabelled=unlabelled,
        on_progress=on_progress,
        say=say,
    )
    notes += seen_notes([met], opened)
    stop = StopFlag()
    try:
        with stop.listening():
            context = build_context(run, study_config, resolve_device(device))
            measuring = Measuring(
                context,
                opened,
                make_protocols(protocols, settings, folder, device=device, on_progress=on_progress, should_stop=stop),
                settings,
                folder,
                resamples=resamples,
                seed=seed,
                on_progress=on_progress,
                should_stop=stop,
            )
            session = _Session(context, measuring, folder, step, remake, stop, on_progress)
            references = session.references()
            measured, missing = session.trials(trials)
    except (Paused, RuntimeError) as error:
        # A batch system's signal also ends the processes that load images, which is an error here.
        if not isinstance(error, Paused) and stop.signal_number is None:
            raise
        number = stop.signal_number or int(signal.SIGTERM)
        raise InterruptedRun(
            f"stopped by {signal.Signals(number).name}; finished parts are kept in {folder}, the same command goes on",
            number,
        ) from None
    notes += [note for found in (*references.values(), *measured.values()) for note in found.notes]
    notes += _missing_notes(missing, trials, measured, step, study_config)
    validation = _conclude(
        run, study_config, folder, step, trials, measured, references, opened, protocols, notes, bootstrap, seed
    )
    validation = replace(validation, facts={**validation.facts, "device": context.device, "resamples": resamples})
    _write(validation)
    return validation


class _Session:
    """Goes through the networks, one in memory at a time."""

    def __init__(
        self,
        context: TrialContext,
        measuring: Measuring,
        folder: Path,
        step: int,
        remake: bool,
        stop: StopFlag,
        on_progress: Progress | None,
    ) -> None:
        self.context, self.measuring, self.folder, self.step = context, measuring, folder, step
        self.remake, self.stop, self.on_progress = remake, stop, on_progress

    def references(self) -> dict[str, Measured]:
        """What needs no training: the network that every trial starts from, and features without a network."""
        config = self.context.config
        seed = derive_seed(config.search.seed, "trials")
        untrained = Encoder(
            name=UNTRAINED,
            backbone=build_networks(config, seed, self.measuring_device)[1].backbone.eval(),
            arch=config.backbone.name,
            overrides=dict(config.backbone.overrides),
            image_size=config.crops.global_size,
            common_statistics=self.context.common_views is not None,
        )
        encoders = [untrained, *baseline_encoders(config.crops.global_size)]
        return {encoder.name: self.measuring.measure(encoder, "references", None) for encoder in encoders}

    def trials(self, trials: Sequence[FinishedTrial]) -> tuple[dict[int, Measured], list[FinishedTrial]]:
        """Measured trials by number, and those that reached the rung but have no weights."""
        measured: dict[int, Measured] = {}
        missing = []
        at_rung = [trial for trial in trials if trial.rung(self.step) is not None]
        for done, trial in enumerate(at_rung):
            if self.on_progress is not None:
                self.on_progress(f"{trial.name} at step {self.step}", done, len(at_rung))
            path = trial.weights(self.step, self.context.config.pretrain.steps)
            if path is None and self.remake:
                path = self._remake(trial)
            if path is None:
                missing.append(trial)
                continue
            common = self.context.common_views is not None
            encoder = load_encoder(path, trial.name, common_statistics=common)
            measured[trial.number] = self.measuring.measure(encoder, f"step-{self.step:06d}", trial.rung(self.step))
        return measured, missing

    @property
    def measuring_device(self) -> Any:
        import torch

        return torch.device(self.context.device)

    def _remake(self, trial: FinishedTrial) -> Path:
        on_step: Callable[[int], None] | None = None
        if self.on_progress is not None:
            report = self.on_progress

            def on_step(step: int) -> None:
                report(f"training {trial.name} again", step, self.step)

        state = self.folder / "remake" / f"{trial.number:04d}.pt"
        return remake_rung(self.context, trial, self.step, state_path=state, on_step=on_step, should_stop=self.stop)


def _check(protocols: Sequence[str], bootstrap: int, resamples: int) -> None:
    unknown = [name for name in protocols if name not in FROZEN]
    if unknown or not protocols:
        found = f"--protocol {unknown[0]}" if unknown else "no protocol"
        raise ConfigError(f"{found}: validate takes frozen protocols, one or more of {', '.join(FROZEN)}")
    if bootstrap < 0 or resamples < 2:
        raise ConfigError(f"bootstrap = {bootstrap}, resamples = {resamples}: expected at least 0 and 2")


def _missing_notes(
    missing: Sequence[FinishedTrial],
    trials: Sequence[FinishedTrial],
    measured: dict[int, Measured],
    step: int,
    config: StudyConfig,
) -> list[str]:
    notes = [verdict.adaptive_note()] if config.search.sampler == "tpe" else []
    shorter = [trial for trial in trials if trial.rung(step) is None]
    if shorter:
        notes.append(f"{len(shorter)} trials were pruned before step {step} and are not compared")
    if missing:
        names = ", ".join(trial.name for trial in missing[:5]) + (", ..." if len(missing) > 5 else "")
        notes.append(f"no weights at step {step} of {len(missing)} trials ({names}): {KEEP_HINT}")
        selection = verdict.selection_note(len(measured), len(measured) + len(missing), config.search.keep_weights)
        notes += [selection] if selection else []
    return notes


def _conclude(
    run: RunFolder,
    config: StudyConfig,
    folder: Path,
    step: int,
    trials: Sequence[FinishedTrial],
    measured: dict[int, Measured],
    references: dict[str, Measured],
    datasets: Sequence[LabelledImages],
    protocols: Sequence[str],
    notes: Sequence[str],
    bootstrap: int,
    seed: int,
) -> Validation:
    used = [trial for trial in trials if trial.number in measured and not trial.collapsed]
    if len(used) < MIN_ROWS:
        raise AugscaleError(
            f"{run.path}: {len(used)} trials at step {step} have weights and did not collapse; expected at least "
            f"{MIN_ROWS}"
        )
    comparison = Comparison(
        [measured[trial.number] for trial in used],
        [trial.name for trial in used],
        references,
        score_metrics(config.probe.levels),
        bootstrap=bootstrap,
        seed=seed,
    )
    dataset = MEAN if len(datasets) > 1 else datasets[0].name
    primary = OutcomeName(dataset=dataset, protocol=protocols[0], metric="auroc")
    outcomes = comparison.outcome_columns({d.name: len(d.part("test")) for d in datasets})
    column = next(outcome for outcome in outcomes if outcome.key == primary.key)
    cells = comparison.cells()
    rows = [_trial_row(trial, measured.get(trial.number), step) for trial in trials]
    rows += [_reference_row(name, found) for name, found in references.items()]
    chance = comparison.table.chance
    cell = next(c for c in cells if (c.score, c.outcome) == (STUDY_KEY, primary.key))
    sentences = [
        verdict.regret_sentence(comparison.regret(primary), column),
        verdict.reference_sentence(rows, column),
        verdict.reliability_sentence(column),
        verdict.chance_sentence(chance, len(comparison.metrics), len(outcomes)),
    ]
    return Validation(
        out=folder,
        run_dir=run.path,
        study=config.name,
        score_name=config.probe.score,
        primary=primary.key,
        step=step,
        steps=config.pretrain.steps,
        headline=verdict.headline(cell, column, adaptive=config.search.sampler == "tpe"),
        sentences=[sentence for sentence in sentences if sentence],
        rows=rows,
        metrics=comparison.metric_columns(),
        outcomes=outcomes,
        correlations=cells,
        regrets=comparison.regret_rows(),
        chance=asdict(chance),
        notes=list(dict.fromkeys(notes)),
        facts={
            "datasets": {d.name: {"classes": list(d.classes), "counts": d.counts()} for d in datasets},
            "protocols": list(protocols),
            "bootstrap": bootstrap,
            "seed": seed,
            "panel_images": config.probe.images,
            "labels_used_by_search": list(config.probe.labelled or ()),
        },
    )


def _trial_row(trial: FinishedTrial, found: Measured | None, step: int) -> NetworkRow:
    reason = ""
    if trial.rung(step) is None:
        reason = "pruned before"
    elif found is None:
        reason = "no weights"
    elif trial.collapsed:
        reason = "collapsed"
    scales = AugmentationScales.model_validate(trial.record.scales)
    return NetworkRow(
        name=trial.name,
        kind="trial",
        number=trial.number,
        state=trial.state,
        control=trial.control is not None,
        used=not reason,
        reason=reason,
        scales=" ".join(describe(scales).split()),
        **_measured_fields(found),
    )


def _reference_row(name: str, found: Measured) -> NetworkRow:
    return NetworkRow(
        name=name,
        kind="reference",
        number=None,
        state="",
        control=False,
        used=False,
        reason="",
        scales="",
        **_measured_fields(found),
    )


def _measured_fields(found: Measured | None) -> dict[str, Any]:
    if found is None:
        return {"scores": {}, "score_interval": None, "outcomes": {}, "outcome_intervals": {}}
    return {
        "scores": found.scores,
        "score_interval": found.score_interval,
        "outcomes": {name.key: outcome.value for name, outcome in found.outcomes.items()},
        "outcome_intervals": {name.key: outcome.interval for name, outcome in found.outcomes.items()},
    }


def _write(validation: Validation) -> None:
    from augscale.reporting.validation.page import write_validation_page

    values = validation.to_dict()
    write_json(validation.json, values)
    tables = {
        "correlations.csv": correlations_csv(validation.correlations),
        "networks.csv": networks_csv(validation.rows),
        "regrets.csv": regrets_csv(validation.regrets),
    }
    for name, text in tables.items():
        write_text_atomic(validation.out / name, text)
    write_validation_page(validation.page, values)
