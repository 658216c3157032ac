"""One trial: a short pre-training at some scales, scored on the fixed panel at every rung.

The same function runs a trial of the search and a confirmation run; what differs (reporting to Optuna, pruning)
comes in through `on_rung`. Everything a trial found is in its `trial.json`, written whole after every rung.
"""

from __future__ import annotations

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
from augscale.evaluation.datasets import LabelledImages
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import common_statistics
from augscale.networks.precision import resolve_precision
from augscale.networks.weights import save_weights, sidecar_facts
from augscale.pretraining.events import PretrainResult, RungEvent, StepLog
from augscale.pretraining.loop import pretrain
from augscale.pretraining.micro_batches import MicroBatches
from augscale.pretraining.state import UnusableState
from augscale.pretraining.student_teacher import build_networks
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import RunFolder, Stopwatch, now
from augscale.scoring.common_views import study_common_views
from augscale.scoring.panel import ProbePanel, build_panel
from augscale.scoring.score import PanelScore, score_backbone
from augscale.searching.prepare import panel_split
from augscale.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What all trials of a study share; built once per worker."""

    config: StudyConfig
    cache: ImageCache
    train_indices: npt.NDArray[np.int64]
    panel: ProbePanel
    device: str
    common_views: Tensor | None = None
    """What batch norm's statistics are gathered on before a network is scored, see `common_views`; None where networks
    keep their own: without batch norm, or with `pretrain.batch_norm = "frozen"`, where all have those of the start."""
    free_memory: int | None = None
    """Bytes that this worker may hold where the study sets no limit; None: measured before every trial."""
    labelled: tuple[LabelledImages, ...] = ()
    """For `probe.score = "knn-auroc"`."""

    @property
    def rung_steps(self) -> list[int]:
        """Steps at which trials are scored, rising; the last is the number of steps."""
        return rung_steps(self.config)


def rung_steps(config: StudyConfig) -> list[int]:
    """The study's rungs in optimiser steps, at least 1 each, without repeats."""
    return sorted({max(1, round(share * config.pretrain.steps)) for share in config.search.rungs})


def build_context(run: RunFolder, config: StudyConfig, device: str, free_memory: int | None = None) -> TrialContext:
    """Opens the cache and the labelled datasets, and draws the panel."""
    manifest = read_json(run.manifest_file)
    cache = open_cache(Path(manifest["cache"]))
    train, held_out = panel_split(cache, config)
    panel = build_panel(cache.images, held_out, cache.records, config.probe, config.crops)
    return TrialContext(
        config=config,
        cache=cache,
        train_indices=train,
        panel=panel,
        device=device,
        common_views=study_common_views(config, cache, train),
        free_memory=free_memory,
        labelled=_open_labelled(config),
    )


def _open_labelled(config: StudyConfig) -> tuple[LabelledImages, ...]:
    if not config.probe.labelled:
        return ()
    # Brings sklearn and scipy.stats, for which a worker without labels need not wait.
    from augscale.searching.labelled_score import open_labelled

    return open_labelled(config, allow_bad=True)


def rung_weights(directory: Path, step: int) -> Path:
    """Where `search.keep_weights = "rungs"` keeps the weights of a rung."""
    return directory / f"rung-{step:06d}.safetensors"


def new_record(scales: AugmentationScales, seed: int, **fields: Any) -> dict[str, Any]:
    """An empty `trial.json`; see docs/run-folder.md for its keys."""
    return {
        **fields,
        "state": "RUNNING",
        "scales": scales.model_dump(),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "rungs": [],
        "final": None,
        "health": None,
        "reason": None,
        "pruned_at": None,
        "seconds": 0.0,
        "images_per_second": None,
        "seconds_by_part": {},
        "loss_history": [],
        "micro_batches": None,
        "started": now(),
        "finished": None,
    }


def run_trial(
    context: TrialContext,
    scales: AugmentationScales,
    *,
    directory: Path,
    seed: int,
    fields: dict[str, Any],
    on_rung: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_micro_batches: Callable[[MicroBatches], None] | None = None,
    largest_micro_batch: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[dict[str, Any], PretrainResult]:
    """Runs, or continues from its last checkpoint, one short pre-training.

    Args:
        context: what trials share.
        scales: the scales to train with.
        directory: where `trial.json` and the resumable state lie.
        seed: of weights, data order and views; equal for all trials of a search.
        fields: what identifies the run (number, control, ...), kept in the record.
        on_rung: called with the rung's entry of the record after it is written; may raise TrialPruned.
        on_step: called with (step, loss) now and then.
        on_micro_batches: called before the first step, and when memory ran out, after the record is written.
        largest_micro_batch: images, what an earlier trial on this device ended with where memory decided it.
    Returns:
        The record, its state still RUNNING, and the result of the pre-training.
    Raises:
        Paused: `should_stop` said so; the state is saved.
        DivergedError: the loss is no longer finite.
    """
    directory.mkdir(parents=True, exist_ok=True)
    record_file, state_file = directory / "trial.json", directory / "state.pt"
    record = (read_json(record_file) if state_file.exists() else None) or new_record(scales, seed)
    record |= fields
    watch, seconds_before = Stopwatch(), record["seconds"]
    steps = context.config.pretrain.steps

    def save() -> None:
        record["seconds"] = round(seconds_before + watch.seconds, 3)
        write_json(record_file, record)

    def log(entry: StepLog) -> None:
        record["loss_history"] = [pair for pair in record["loss_history"] if pair[0] < entry.step]
        record["loss_history"].append([entry.step, round(entry.loss, 6)])
        if on_step:
            on_step(entry.step, entry.loss)

    def micro_batches(chosen: MicroBatches) -> None:
        record["micro_batches"] = chosen.to_dict()
        save()
        if on_micro_batches:
            on_micro_batches(chosen)

    def rung(event: RungEvent) -> None:
        """Scores the rung and keeps it in the record."""
        last = event.step >= steps
        scoring = Stopwatch()
        score = score_trial(
            context,
            event.backbone,
            bootstrap=context.config.probe.bootstrap if last else 0,
            information=event.information,
            loss=event.loss,
            out_dim=context.config.pretrain.out_dim,
            final=last,
            autocast=not last and _may_be_coarse(context),
            should_stop=should_stop,
        )
        rung_record = _rung_record(event, score, steps, context.config.probe.separation)
        rung_record["seconds"] = round(scoring.seconds, 3)
        record["rungs"] = [old for old in record["rungs"] if old["step"] != event.step] + [rung_record]
        record["health"] = score.to_dict()["health"]
        if last:
            record["final"] = score.to_dict()
        # Here too, because a pruned trial ends within `on_rung`.
        parts = event.seconds_by_part
        record["seconds_by_part"] = _rounded(parts | {"rungs": parts.get("rungs", 0.0) + scoring.seconds})
        if context.config.search.keep_weights == "rungs":
            save_rung(context, directory, record, rung_record, event.backbone)
        save()
        if on_rung:
            on_rung(rung_record)

    def train() -> PretrainResult:
        """From the saved state where there is one."""
        return pretrain(
            context.cache.images,
            context.train_indices,
            scales,
            study=context.config,
            seed=seed,
            device=context.device,
            state_path=state_file,
            rung_steps=context.rung_steps,
            on_rung=rung,
            on_log=log,
            should_stop=should_stop,
            free_memory=context.free_memory,
            largest_micro_batch=largest_micro_batch,
            on_micro_batches=micro_batches,
        )

    save()
    try:
        try:
            result = train()
        except UnusableState as error:
            # Of an older version, or cut off by a crash of the machine: the trial is short, so it begins again.
            state_file.unlink()
            record = new_record(scales, seed) | fields | {"began_again": str(error)}
            result = train()
    finally:
        save()
    record["images_per_second"] = round(result.images_per_second, 2)
    record["seconds_by_part"] = _rounded(result.seconds_by_part)
    save()
    return record, result


def score_untrained(context: TrialContext, seed: int) -> dict[str, Any]:
    """The panel's score of the network that every trial starts from: what training has to beat."""
    backbone = build_networks(context.config, seed, torch.device(context.device))[1].backbone
    return score_trial(context, backbone, bootstrap=context.config.probe.bootstrap).to_dict()


def score_trial(
    context: TrialContext,
    backbone: Backbone,
    *,
    bootstrap: int = 0,
    should_stop: Callable[[], bool] | None = None,
    **training: Any,
) -> PanelScore:
    """The study's score of a backbone: the panel's, or that of `probe.labelled` beside the panel's findings.

    Args:
        bootstrap: resamples for the interval.
        should_stop: asked between batches.
        training: `information`, `loss`, `out_dim`, `final`, `autocast`, see `score_backbone`.
    """
    probe = context.config.probe
    shared: dict[str, Any] = {"device": context.device, "bootstrap": bootstrap, "should_stop": should_stop}
    with common_statistics(backbone, context.common_views, device=context.device, should_stop=should_stop):
        panel = score_backbone(backbone, context.panel, probe, **shared, **training)
    if probe.score != "knn-auroc":
        return panel
    from augscale.searching.labelled_score import score_labelled

    size, seed = context.config.crops.global_size, derive_seed(probe.seed, "bootstrap")
    common = context.common_views is not None
    return score_labelled(backbone, context.labelled, view_size=size, seed=seed, common=common, **shared).onto(panel)


def _may_be_coarse(context: TrialContext) -> bool:
    """Whether a score on the way, which decides about pruning only, is as coarse as training.

    d' moves by 0.001 in bf16. A spectrum's small eigenvalues would drown in rounding. The final score is always in
    fp32, comparable with whatever is scored elsewhere.
    """
    config = context.config
    return config.probe.score != "alpha_req" and resolve_precision(config.pretrain.precision, context.device) == "bf16"


def save_rung(
    context: TrialContext, directory: Path, record: dict[str, Any], rung: dict[str, Any], backbone: Backbone
) -> Path:
    """Keeps the weights of one rung, with a sidecar that says what they are."""
    path = rung_weights(directory, rung["step"])
    metrics = {name: rung[name] for name in ("score", "effective_rank")} | {"score_name": context.config.probe.score}
    facts = _facts(context, record, rung) | {"trained_steps": rung["step"], "metrics": metrics}
    save_weights(path, backbone, facts)
    return path


def close_record(directory: Path, record: dict[str, Any], state: str, reason: str | None = None) -> None:
    """Writes the final state of a run."""
    record |= {"state": state, "reason": reason, "finished": now()}
    write_json(directory / "trial.json", record)


def sidecar(context: TrialContext, record: dict[str, Any]) -> dict[str, Any]:
    """What is written beside saved weights."""
    final = record["final"]
    metrics = {key: final[key] for key in ("score", "score_name", "interval", "effective_rank")}
    return _facts(context, record, record["rungs"][-1]) | {"metrics": metrics}


def _facts(context: TrialContext, record: dict[str, Any], rung: dict[str, Any]) -> dict[str, Any]:
    scales = AugmentationScales.model_validate(record["scales"])
    facts = sidecar_facts(context.config, scales, loss=rung["loss"], information=rung["information"])
    return facts | {
        "name": str(record.get("control") or f"trial {record['number']}"),
        "seed": record["seed"],
        "data_fingerprint": context.cache.fingerprint,
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {part: round(value, 3) for part, value in seconds.items()}


def _rung_record(event: RungEvent, score: PanelScore, steps: int, separation: str) -> dict[str, Any]:
    values = score.to_dict()
    return {
        "step": event.step,
        "fraction": round(event.step / steps, 6),
        "score": values["score"],
        "levels": {name: level[separation] for name, level in values["levels"].items()},
        "effective_rank": values["effective_rank"],
        "information": event.information,
        "loss": event.loss,
    }
