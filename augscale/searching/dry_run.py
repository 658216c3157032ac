"""`augscale search --dry-run`: what a search would run and cost. Nothing is trained on the images or written.

Files are listed, not opened. Time and memory come from three steps on noise with the study's networks, views and batch
on this machine, and from the scoring of some noise: their cost does not depend on what the images show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig, sets_panel
from augscale.data.side_names import side_hint
from augscale.data.sources import SYNTHETIC_SEED, SourceScan, scan_data
from augscale.data.splits import choose_subset
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.step import Trainer
from augscale.records.manifest import ManifestRecord
from augscale.runs.folders import RunFolder
from augscale.scoring.embeddings import embed
from augscale.scoring.panel import checked_panel_split, fit_panel, fitted_words
from augscale.searching.introduction import NO_PATIENTS
from augscale.searching.prepare import check_study, default_run_folder, kept_panel, refuse_changes
from augscale.searching.search import parse_budget, resolved_study
from augscale.searching.space import not_searched_sentence
from augscale.searching.trial import rung_steps
from augscale.searching.trust import labels_line, trust_line
from augscale.seeding import derive_seed
from augscale.system.devices import WorkerPlan, plan_workers
from augscale.system.memory import memory_limit

_TIMED_STEPS = 2
_TIMED_VIEWS = 64
_QUIET_SHARE = 0.9
"""Share of a core below which other work is mentioned."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time and memory of one worker."""

    seconds_per_step: float
    seconds_per_view: float
    """Of scoring."""
    core_share: float | None
    """Share of a core that the timed steps had, on a CPU; below 1 where other work ran at the same time."""
    bytes: int
    """Peak: on a CPU an estimate of all that the process holds, on a GPU what the steps have allocated."""
    micro_batches: str


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search that has not run."""

    study: str
    run: Path
    begun: bool
    """True if the run folder exists, so that the search would resume it."""
    images: int
    patients: int
    """0 without patient ids."""
    train: int
    panel: int
    set_aside: int
    """Files that are known to be unusable without opening them."""
    trials: int
    controls: tuple[str, ...]
    """Scales of the first trials."""
    confirmations: int
    nulls: int
    steps: int
    batch_size: int
    backbone: str
    parameters: int
    view_size: int
    device: str
    workers: int
    cost: Cost
    seconds: float
    """Forecast for the whole search, if no trial is pruned."""
    budget: float | None = None
    """Time budget of the call in seconds."""
    fitting: int | None = None
    """Trials that fit into the budget with their confirmation by the forecast; 0 if it is too short for an answer."""
    shortest: float | None = None
    """Forecast in seconds of the shortest search that can give an answer: the controls and one searched trial."""
    trust: str | None = None
    """How far the score can be trusted, as a search says at its start; see `trust_line`."""
    labels: str | None = None
    """Hint at `--labels`, as a search gives it at its start; see `labels_line`."""
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Forecast for all workers."""
        return self.workers * self.cost.bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"run": str(self.run), "bytes": self.bytes}


def plan_search(
    study: str | Path | StudyConfig = "default",
    *,
    data: str | Path | list[str | Path] | None = None,
    labels: str | Path | list[str | Path] | None = None,
    trials: int | None = None,
    budget: str | float | None = None,
    workers: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    out: str | Path | None = None,
    max_memory: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> SearchPlan:
    """Forecasts a search; the arguments are those of `search`.

    Raises:
        ConfigError, DataError: the search would be refused for this reason.
    """
    config = resolved_study(
        study, data=data, labels=labels, trials=trials, seed=seed, max_memory=max_memory, overrides=overrides
    )
    allowed = parse_budget(budget)
    run = RunFolder(out or default_run_folder(config))
    begun = ManifestRecord.read_if_there(run.manifest_file) is not None
    given = sets_panel(study, overrides or {})
    asked, config = config, config if given else kept_panel(run, config)
    if begun:
        refuse_changes(run, config)
    parameters = check_study(config)
    plan = plan_workers(device, workers, config.search.trials)
    scan = scan_data(config.data)
    if config.data.max_images is not None:
        scan = replace(scan, records=choose_subset(scan.records, config.data.max_images, SYNTHETIC_SEED))
    config = config if given else fit_panel(config, len(scan.records))
    train, panel = checked_panel_split(scan.records, config)
    cost = measure_cost(config, plan)
    runs, workers_used = _runs(config, config.search.trials), len(plan.devices)
    return SearchPlan(
        study=config.name,
        run=run.path,
        begun=begun,
        images=len(scan.records),
        patients=len({record.patient_id for record in scan.records if record.patient_id is not None}),
        train=len(train),
        panel=len(panel),
        set_aside=len(scan.bad),
        trials=config.search.trials,
        controls=config.search.controls[: config.search.trials],
        confirmations=runs.confirmations,
        nulls=runs.nulls,
        steps=config.pretrain.steps,
        batch_size=config.pretrain.batch_size,
        backbone=config.backbone.name,
        parameters=parameters,
        view_size=config.crops.global_size,
        device=str(plan),
        workers=workers_used,
        cost=cost,
        seconds=_seconds(config, cost, runs, workers_used),
        budget=allowed,
        fitting=None if allowed is None else _fitting(config, cost, workers_used, allowed),
        shortest=_seconds(config, cost, _runs(config, _least_trials(config)), workers_used),
        trust=trust_line(config),
        labels=labels_line(config),
        notes=(*fitted_words(asked, config, len(scan.records)), *_notes(config, scan, begun, cost)),
    )


def measure_cost(config: StudyConfig, plan: WorkerPlan) -> Cost:
    """Times some steps and some scoring on noise, with the threads of one worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        return _measured(config, torch.device(plan.devices[0]), plan)
    finally:
        torch.set_num_threads(threads)


def _measured(config: StudyConfig, device: torch.device, plan: WorkerPlan) -> Cost:
    # Pre-trained weights cost the same as random ones, and compiling would take longer than the steps.
    plainer = {
        "backbone": config.backbone.model_copy(update={"init": "none"}),
        "pretrain": config.pretrain.model_copy(update={"compile": "never", "steps": max(4, config.pretrain.steps)}),
    }
    study, seed = config.model_copy(update=plainer), derive_seed(0, "dry run")
    batch, side = config.pretrain.batch_size, config.data.cache_size
    noise = np.random.default_rng(seed).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    limit = memory_limit(config.pretrain.max_memory, device, plan.free_memory)
    trainer = Trainer(
        noise, np.arange(batch), load_scales("strong"), study, seed, device, DistributedContext(), memory_limit=limit
    )
    trainer.fit_into_memory(None)
    trainer.train_step(logged=True)  # the first step allocates
    busy, begin = time.thread_time(), time.perf_counter()
    per_step = _timed(lambda: trainer.train_step(logged=True), device, _TIMED_STEPS)
    share = (time.thread_time() - busy) / (time.perf_counter() - begin)
    size = config.crops.global_size
    views = torch.zeros(_TIMED_VIEWS, 3, size, size)
    per_view = _timed(lambda: embed(trainer.teacher.backbone, views, device=device), device, 1) / _TIMED_VIEWS
    return Cost(
        seconds_per_step=per_step,
        seconds_per_view=per_view,
        # With several threads, the first one also waits for the others.
        core_share=min(1.0, share) if device.type == "cpu" and plan.threads == 1 else None,
        bytes=trainer.peak_bytes(),
        micro_batches=str(trainer.micro_batches),
    )


def _timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds per call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / repeats


@dataclass(frozen=True, kw_only=True)
class _Runs:
    trials: int
    confirmations: int
    nulls: int

    @property
    def total(self) -> int:
        return self.trials + self.confirmations + self.nulls


def _runs(config: StudyConfig, trials: int) -> _Runs:
    """The runs of a search of so many trials, if no control outside `confirm.controls` leads."""
    candidates = min(config.confirm.top_k, max(0, trials - len(config.search.controls)))
    return _Runs(
        trials=trials,
        confirmations=(candidates + len(config.confirm.controls)) * config.confirm.seeds,
        nulls=min(config.search.null_trials, len(config.search.controls)),
    )


def _least_trials(config: StudyConfig) -> int:
    """The controls and one searched trial, or all trials where there are no more than controls."""
    return min(config.search.trials, len(config.search.controls) + 1)


def _fitting(config: StudyConfig, cost: Cost, workers: int, budget: float) -> int:
    """The largest number of trials whose search, with its confirmation, fits into the budget; 0 if none does."""
    wanted = range(config.search.trials, _least_trials(config) - 1, -1)
    return next((n for n in wanted if _seconds(config, cost, _runs(config, n), workers) <= budget), 0)


def _seconds(config: StudyConfig, cost: Cost, runs: _Runs, workers: int) -> float:
    probe = config.probe
    views = probe.images * (1 + probe.views * len(probe.levels))
    per_run = config.pretrain.steps * cost.seconds_per_step + len(rung_steps(config)) * views * cost.seconds_per_view
    return per_run * runs.total / workers


def _notes(config: StudyConfig, scan: SourceScan, begun: bool, cost: Cost) -> tuple[str, ...]:
    notes = []
    if begun:
        notes.append("the run folder exists: the search would resume it, and what has ended is not run again")
    if any(source != "synthetic" for source in config.data.sources):
        notes.append("files were listed and not opened: broken ones and exact copies are found by the search")
    if config.probe.labelled:
        notes.append("the labelled images, which every score embeds, too, are neither listed nor in the forecast")
    if (sentence := not_searched_sentence(config)) is not None:
        notes.append(sentence)
    share = 1.0 if cost.core_share is None else cost.core_share
    busy = f"other work left {100 * share:.0f} % of a core to the timed steps; " if share < _QUIET_SHARE else ""
    notes.append(
        f"{busy}the forecast is for unpruned trials, without decoding, start-up and reports; workers that share "
        "memory bandwidth are slower than one alone"
    )
    if not any(record.patient_id is not None for record in scan.records):
        notes.append("; ".join(filter(None, [NO_PATIENTS, side_hint(scan.records)])))
    return (*notes, *scan.notes)
