"""One trial: a short pre-training at given scales, scored on the fixed panel at every rung.

The same function runs trials of the search, confirmation runs and null runs. Reporting to Optuna and pruning happen in
the caller's `on_rung`. Everything that a trial finds is in its `trial.json`, written whole after every rung.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache, open_cache
from augscale.data.splits import patient_groups
from augscale.errors import AugscaleError
from augscale.evaluation.datasets import LabelledImages
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import common_statistics
from augscale.networks.precision import resolve_precision
from augscale.networks.weights import save_weights, sidecar_facts
from augscale.pretraining.events import PretrainResult, RungEvent, StepLog
from augscale.pretraining.loop import pretrain
from augscale.pretraining.methods import chance_loss
from augscale.pretraining.micro_batches import MicroBatches
from augscale.pretraining.state import UnusableState
from augscale.pretraining.student_teacher import build_networks
from augscale.records.manifest import ManifestRecord
from augscale.records.panel import PanelRecord
from augscale.records.trial import MicroBatchesRecord, RungRecord, TrialRecord
from augscale.runs.folders import RunFolder, Stopwatch, now
from augscale.scoring.batch_norm_views import study_common_views
from augscale.scoring.panel import ProbePanel, build_panel, panel_split
from augscale.scoring.score import PanelScore, score_backbone
from augscale.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """Everything that all trials of a study share; built once per worker."""

    config: StudyConfig
    cache: ImageCache
    train_indices: npt.NDArray[np.int64]
    panel: ProbePanel
    device: str
    common_views: Tensor | None = None
    """Views on which batch norm statistics are gathered before a network is scored, see `common_views`. None where
    networks keep their own: without batch norm, or with `pretrain.batch_norm = "frozen"`."""
    free_memory: int | None = None
    """Bytes that this worker may use where the study sets no limit; None: measured before every trial."""
    labelled: tuple[LabelledImages, ...] = ()
    """Datasets that a score from labels is computed on; empty for other scores."""

    @property
    def rung_steps(self) -> list[int]:
        """Steps at which trials are scored, rising; the last is the number of steps."""
        return rung_steps(self.config)


def rung_steps(config: StudyConfig) -> list[int]:
    """The study's rungs in optimizer steps, at least 1 each, without repeats."""
    return sorted({max(1, round(share * config.pretrain.steps)) for share in config.search.rungs})


def build_context(run: RunFolder, config: StudyConfig, device: str, free_memory: int | None = None) -> TrialContext:
    """Opens the cache and the labelled datasets, and draws the panel."""
    cache = open_cache(Path(ManifestRecord.read(run.manifest_file).cache))
    train, held_out = panel_split(cache, config)
    labelled: tuple[LabelledImages, ...] = ()
    if config.probe.labelled:
        # Imports sklearn and scipy.stats, which a worker without labels does not need.
        from augscale.searching.labelled_score import open_labelled

        labelled = open_labelled(config, allow_bad=True)
    return TrialContext(
        config=config,
        cache=cache,
        train_indices=train,
        panel=build_panel(cache.images, held_out, cache.records, config.probe, config.crops),
        device=device,
        common_views=study_common_views(config, cache, train),
        free_memory=free_memory,
        labelled=labelled,
    )


def new_record(scales: AugmentationScales, seed: int, **identity: Any) -> TrialRecord:
    """The record of a trial that has not begun.

    Args:
        scales: the scales to train with.
        seed: of weights, data order and views; equal for all trials of a search.
        identity: `number`, `name`, `kind`, `seed_index`, `control`, `params` and `starts`, as far as they apply.
    """
    started = now()
    return TrialRecord(
        scales=scales.model_dump(), seed=seed, threads=torch.get_num_threads(), started=started, **identity
    )


def run_trial(
    context: TrialContext,
    record: TrialRecord,
    directory: Path,
    *,
    on_rung: Callable[[RungRecord], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_micro_batches: Callable[[MicroBatches], None] | None = None,
    largest_micro_batch: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[TrialRecord, PretrainResult]:
    """Runs one short pre-training, or continues it from its last checkpoint.

    Args:
        context: of the study.
        record: from `new_record`; where the trial continues, its own record is continued.
        directory: folder of `trial.json` and of the resumable state.
        on_rung: called with the rung's entry of the record after it is written; may raise TrialPruned.
        on_step: called with (step, loss) at logged steps.
        on_micro_batches: called after the record is written, before the first step and whenever memory ran out.
        largest_micro_batch: micro-batch size in images at the end of an earlier trial on this device, if memory limited
            it.
        should_stop: called between steps.
    Returns:
        The record, its state still RUNNING, and the result of the pre-training.
    Raises:
        Paused: `should_stop` returned True; the state is saved.
        DivergedError: the loss is no longer finite.
        AugscaleError: a score is not finite.
    """
    course = _RunningTrial(context, record, directory, on_rung, on_step, on_micro_batches, should_stop)
    try:
        try:
            result = course.train(largest_micro_batch)
        except UnusableState as error:
            # Written by another version, or cut off by a crash. A trial is short, so it begins again.
            course.begin_again(record, str(error))
            result = course.train(largest_micro_batch)
    finally:
        course.keep()
    parts = _rounded(result.seconds_by_part)
    return course.keep(images_per_second=round(result.images_per_second, 2), seconds_by_part=parts), result


class _RunningTrial:
    """One trial while it trains: the loop's callbacks keep its record in the trial's folder up to date."""

    def __init__(
        self,
        context: TrialContext,
        record: TrialRecord,
        directory: Path,
        on_rung: Callable[[RungRecord], None] | None,
        on_step: Callable[[int, float], None] | None,
        on_micro_batches: Callable[[MicroBatches], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.context, self.directory, self.state_file = context, directory, directory / "state.pt"
        self.tell_rung, self.tell_step, self.tell_micro_batches = on_rung, on_step, on_micro_batches
        self.should_stop = should_stop
        begun = TrialRecord.in_folder(directory) if self.state_file.exists() else None
        self.record = begun.model_copy(update={"starts": record.starts}) if begun else record
        self.losses = list(self.record.loss_history)
        self.watch, self.seconds_before = Stopwatch(), self.record.seconds or 0.0
        self.keep()

    def keep(self, **changes: Any) -> TrialRecord:
        """Writes the record with these changes."""
        seconds = round(self.seconds_before + self.watch.seconds, 3)
        changes |= {"seconds": seconds, "loss_history": tuple(self.losses)}
        self.record = self.record.model_copy(update=changes).keep(self.directory)
        return self.record

    def begin_again(self, record: TrialRecord, reason: str) -> None:
        """Drops the saved state, and what was recorded with it."""
        self.state_file.unlink()
        self.record, self.losses = record, []
        self.keep(began_again=reason)

    def train(self, largest_micro_batch: int | None) -> PretrainResult:
        """Trains from the saved state where there is one."""
        context = self.context
        return pretrain(
            context.cache.images,
            context.train_indices,
            AugmentationScales.model_validate(self.record.scales),
            study=context.config,
            seed=self.record.seed,
            device=context.device,
            state_path=self.state_file,
            rung_steps=context.rung_steps,
            on_rung=self.on_rung,
            on_log=self.on_log,
            should_stop=self.should_stop,
            free_memory=context.free_memory,
            largest_micro_batch=largest_micro_batch,
            on_micro_batches=self.on_micro_batches,
            patients=patient_groups(context.cache.records),
        )

    def on_log(self, entry: StepLog) -> None:
        self.losses = [point for point in self.losses if point[0] < entry.step]
        self.losses.append((entry.step, round(entry.loss, 6)))
        if self.tell_step:
            self.tell_step(entry.step, entry.loss)

    def on_micro_batches(self, chosen: MicroBatches) -> None:
        self.keep(micro_batches=MicroBatchesRecord.model_validate(chosen.to_dict()))
        if self.tell_micro_batches:
            self.tell_micro_batches(chosen)

    def on_rung(self, event: RungEvent) -> None:
        """Scores the rung and keeps it in the record."""
        config, scoring = self.context.config, Stopwatch()
        last = event.step >= config.pretrain.steps
        score = score_trial(
            self.context,
            event.backbone,
            bootstrap=config.probe.bootstrap if last else 0,
            information=event.information,
            loss=event.loss,
            chance_loss=event.chance_loss,
            final=last,
            autocast=not last and _may_be_coarse(self.context),
            should_stop=self.should_stop,
        )
        if not math.isfinite(score.score):
            raise AugscaleError(f"score is {score.score} at step {event.step}")
        panel = PanelRecord.model_validate(score.to_dict())
        rung = RungRecord(
            step=event.step,
            fraction=round(event.step / config.pretrain.steps, 6),
            score=panel.score,
            levels={name: level.separation(config.probe.separation) for name, level in panel.levels.items()},
            effective_rank=panel.effective_rank,
            information=event.information,
            loss=event.loss,
            seconds=round(scoring.seconds, 3),
        )
        # The seconds are recorded here, too, because pruning ends a trial within `tell_rung`.
        parts = event.seconds_by_part
        parts = parts | {"rungs": parts.get("rungs", 0.0) + scoring.seconds}
        self.record = self.record.model_copy(
            update={
                "rungs": (*(old for old in self.record.rungs if old.step != event.step), rung),
                "health": panel.health,
                "final": panel if last else self.record.final,
                "seconds_by_part": _rounded(parts),
            }
        )
        if config.search.keep_weights == "rungs":
            save_rung(self.context, self.directory, self.record, rung, event.backbone)
        self.keep()
        if self.tell_rung:
            self.tell_rung(rung)


def score_untrained(context: TrialContext, seed: int) -> PanelRecord:
    """The panel's score of the network that a trial with this seed starts from: training has to beat it."""
    backbone = build_networks(context.config, seed, torch.device(context.device))[1].backbone
    score = score_trial(context, backbone, bootstrap=context.config.probe.bootstrap)
    return PanelRecord.model_validate(score.to_dict())


def score_trial(
    context: TrialContext,
    backbone: Backbone,
    *,
    bootstrap: int = 0,
    should_stop: Callable[[], bool] | None = None,
    **training: Any,
) -> PanelScore:
    """The study's score of a backbone: that of the panel, or that of `probe.labelled` with the panel's other findings.

    Args:
        context: of the study.
        backbone: in train or eval mode; the mode is kept.
        bootstrap: number of resamples for the interval.
        should_stop: called between batches.
        training: `information`, `loss`, `chance_loss`, `final`, `autocast`, see `score_backbone`.
    """
    probe = context.config.probe
    shared: dict[str, Any] = {"device": context.device, "bootstrap": bootstrap, "should_stop": should_stop}
    with common_statistics(backbone, context.common_views, device=context.device, should_stop=should_stop):
        panel = score_backbone(backbone, context.panel, probe, **shared, **training)
    if not probe.uses_labels:
        return panel
    from augscale.searching.labelled_score import score_labelled

    size, seed = context.config.crops.global_size, derive_seed(probe.seed, "bootstrap")
    common = context.common_views is not None
    options: dict[str, Any] = shared | {"name": probe.score, "view_size": size, "seed": seed, "common": common}
    return score_labelled(backbone, context.labelled, **options).onto(panel)


def _may_be_coarse(context: TrialContext) -> bool:
    """True if scores before the last rung, which only decide about pruning, are computed in the training precision.

    d' changes by 0.001 in bf16, but the small eigenvalues of a spectrum would be lost in rounding. The final score is
    always computed in fp32, so that it can be compared with scores computed elsewhere.
    """
    config = context.config
    return config.probe.score != "alpha_req" and resolve_precision(config.pretrain.precision, context.device) == "bf16"


def rung_weights(directory: Path, step: int) -> Path:
    """The file in which `search.keep_weights = "rungs"` keeps the weights of a rung."""
    return directory / f"rung-{step:06d}.safetensors"


def save_rung(
    context: TrialContext, directory: Path, record: TrialRecord, rung: RungRecord, backbone: Backbone
) -> Path:
    """Saves the weights of one rung, with a sidecar that says what they are."""
    path = rung_weights(directory, rung.step)
    metrics = {"score": rung.score, "effective_rank": rung.effective_rank, "score_name": context.config.probe.score}
    save_weights(path, backbone, _facts(context, record, rung) | {"trained_steps": rung.step, "metrics": metrics})
    return path


def sidecar(context: TrialContext, record: TrialRecord) -> dict[str, Any]:
    """The content of the file beside the saved weights of a finished trial."""
    assert record.final is not None
    metrics = {key: getattr(record.final, key) for key in ("score", "score_name", "interval", "effective_rank")}
    return _facts(context, record, record.rungs[-1]) | {"metrics": metrics}


def _facts(context: TrialContext, record: TrialRecord, rung: RungRecord) -> dict[str, Any]:
    scales = AugmentationScales.model_validate(record.scales)
    facts = sidecar_facts(
        context.config,
        scales,
        loss=rung.loss,
        information=rung.information,
        chance_loss=chance_loss(context.config),
    )
    name = record.control or f"trial {record.number}"
    return facts | {"name": name, "seed": record.seed, "data_fingerprint": context.cache.fingerprint}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {part: round(value, 3) for part, value in seconds.items()}
