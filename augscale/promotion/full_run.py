"""`augscale.pretrain_full(...)`: one full pre-training from images to weights.

The training loop is that of a trial, with a run folder, evaluations on held-out photographs, several processes and
micro-batches. Under `torchrun` every process calls the same function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import StudyConfig, sets_panel, source_list
from augscale.data.cache import ImageCache, build_cache, default_cache_root
from augscale.data.facts import data_facts
from augscale.data.sanity import Sanity, check_images
from augscale.pretraining.distributed import global_rank, init_distributed, started_by_torchrun
from augscale.pretraining.methods import check_patients
from augscale.promotion.full_display import FullRunDisplay
from augscale.promotion.full_folder import FullRunFolder
from augscale.promotion.full_session import FullRunSession
from augscale.promotion.full_settings import (
    DEFAULT_EPOCHS,
    check_lengths,
    checked_parameters,
    default_folder,
    resolve_study,
    scales_label,
    with_steps,
)
from augscale.records.full_run import FullRunFacts, FullRunResult
from augscale.records.metrics import score_label
from augscale.scoring.panel import checked_panel_split, fit_panel, fitted_words


class FullRun(FullRunResult):
    """A finished full pre-training."""

    run_dir: Path
    scales: AugmentationScales

    @property
    def last_weights(self) -> Path:
        return FullRunFolder(self.run_dir).last_weights

    @property
    def best_weights(self) -> Path:
        return FullRunFolder(self.run_dir).best_weights

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return super().to_dict() | {"last_weights": str(self.last_weights), "best_weights": str(self.best_weights)}

    def __str__(self) -> str:
        best, last = self.best, self.last
        interval = f" [{last.interval[0]:.3f}, {last.interval[1]:.3f}]" if last.interval else ""
        return (
            f"{self.scales_name}: {self.steps} steps, {self.epochs:.4g} epochs, loss {self.loss:.3f}, "
            f"{score_label(last.score_name)} {last.score:.3f}{interval} at the end, best {best.score:.3f} "
            f"at step {best.step}; {self.images_per_second:.3g} images/s\n{self.last_weights}\n{self.best_weights}"
        )


def pretrain_full(
    scales: str | Path | AugmentationScales,
    *,
    data: str | Path | list[str | Path] | None = None,
    study: str | Path | StudyConfig = "default",
    scales_name: str | None = None,
    arch: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    accumulate: int = 1,
    max_memory: str | None = None,
    init: str | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    evaluations: int = 20,
    log_every: int = 10,
    allow_bad: bool = False,
    overrides: dict[str, Any] | None = None,
    quiet: bool = False,
    console: Console | None = None,
) -> FullRun:
    """Pre-trains in full at the given scales. The same call with the same `out` continues an interrupted run.

    Args:
        scales: a preset, a scale card, or the scales themselves.
        data: folders, CSV manifests or "synthetic"; None takes the study's.
        study: built-in study, study file or StudyConfig; its backbone, crops, recipe and panel are used.
        scales_name: name for display and the default folder; None takes the name of the preset or card.
        arch: timm's name of a backbone that replaces the study's, without the study's overrides.
        epochs, steps: length of the run; give at most one. None for both is 100 epochs. An epoch is all images except
            the panel's, in whole batches. The study's `pretrain.steps`, the length of a trial, is not used.
        batch_size: images per step of all processes and micro-batches together; None takes the study's.
        accumulate: smallest number of micro-batches per process and step; more if memory is short. It may change on
            resumption.
        max_memory: limit of each process's GPU or main memory, e.g. "8GB"; None takes the study's, or what is free.
        init: "none", "imagenet" or a weights file; None takes the study's.
        seed: root of the seeds of weights, data order, views and stochastic depth.
        device: "auto", "cpu", "cuda" or "cuda:N"; under torchrun each process takes its own GPU.
        out: run folder; None is runs/pretrain/STUDY-SCALES in the current folder.
        resume: refuse to begin a new run.
        evaluations: number of evenly spaced evaluations, which score the panel and save weights; the last at the end.
        log_every: steps between lines of the log.
        allow_bad: continue although many files cannot be used.
        overrides: any settings of the study by dotted key.
        console: where to print; None is standard error. `quiet` prints nothing.
    Raises:
        ConfigError, DataError: before anything is trained.
        CheckpointError: weights or state cannot be read, or written (a full disk); what was saved is intact.
        DivergedError: the loss is no longer finite.
        InterruptedRun: a signal came; the state is saved.
    """
    check_lengths(epochs, steps, evaluations, log_every)
    loaded = scales if isinstance(scales, AugmentationScales) else load_scales(scales)
    name = scales_name or scales_label(scales)
    flags = {"data.sources": source_list(data), "pretrain.batch_size": batch_size, "backbone.init": init}
    config = resolve_study(study, arch, flags | {"pretrain.max_memory": max_memory}, overrides or {})
    parameters = checked_parameters(config)
    check_patients(config)
    folder = FullRunFolder(out or default_folder(config, name, seed))
    display = FullRunDisplay(console or Console(stderr=True), quiet=quiet or global_rank() > 0)
    cache, sanity = _decode(config, display, allow_bad=allow_bad)
    asked, config = config, config if sets_panel(study, overrides or {}) else fit_panel(config, len(cache.records))
    for line in fitted_words(asked, config, len(cache.records)):
        display.say(line)
    train, panel = checked_panel_split(cache.records, config)
    steps_per_epoch = len(train) // config.pretrain.batch_size
    config = with_steps(config, steps or max(1, round((epochs or DEFAULT_EPOCHS) * steps_per_epoch)))
    with init_distributed(device) as context:
        facts = FullRunFacts(
            scales_name=name,
            parameters=parameters,
            steps_per_epoch=steps_per_epoch,
            epochs=config.pretrain.steps / steps_per_epoch,
            accumulate=accumulate,
            evaluations=evaluations,
            data=data_facts(config.data, cache, sanity, len(train), len(panel)),
            device=str(context.device),
            processes=context.world_size,
        )
        session = FullRunSession(config, loaded, seed, cache, train, panel, folder, display, facts, context)
        finished = session.run(resume=resume, log_every=log_every)
    return FullRun(**dict(finished), run_dir=folder.path, scales=loaded)


def _decode(config: StudyConfig, display: FullRunDisplay, *, allow_bad: bool) -> tuple[ImageCache, Sanity]:
    with display.images() as on_progress, _one_process_at_a_time():
        cache = build_cache(config.data, allow_bad=allow_bad, on_progress=on_progress)
        sanity = check_images(cache, allow_bad=allow_bad)
    for note in cache.source_notes:
        display.say(note)
    return cache, sanity


@contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    """Under torchrun: the first process of a machine builds the cache, the others find it."""
    if not started_by_torchrun():
        yield
        return
    root = default_cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "pretrain.lock"):
        yield
