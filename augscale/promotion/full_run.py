"""`augscale.pretrain_full(...)`: one full pre-training from images to weights; the command line is a thin skin.

The loop is that of a trial; what is added is a run folder, evaluations on held-out photographs, several processes and
micro-batches. Under `torchrun` every process calls the same function, and process 0 alone prints and writes.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from rich.console import Console

from augscale.augmentation.scales import AugmentationScales, describe, load_scales
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache, build_cache, default_cache_root
from augscale.data.grey_levels import range_lines
from augscale.data.sanity import check_images
from augscale.errors import AugscaleError, CheckpointError, ConfigError, InterruptedRun, Paused
from augscale.pretraining.distributed import DistributedContext, global_rank, init_distributed, started_by_torchrun
from augscale.pretraining.events import PretrainResult
from augscale.pretraining.loop import pretrain
from augscale.promotion.full_display import FullRunDisplay
from augscale.promotion.full_folder import FullRunFolder, prepare_folder
from augscale.promotion.full_settings import (
    DEFAULT_EPOCHS,
    check_lengths,
    check_networks,
    data_facts,
    default_folder,
    evaluation_steps,
    resolve_study,
    scales_label,
    source_list,
    with_steps,
)
from augscale.promotion.recorder import Recorder, best_of
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import try_lock
from augscale.scoring.common_views import study_common_views
from augscale.scoring.panel import build_panel, checked_panel_split
from augscale.system.signals import StopFlag


@dataclass(frozen=True, kw_only=True)
class FullRun:
    """A finished full pre-training."""

    run_dir: Path
    scales_name: str
    scales: AugmentationScales
    seed: int
    steps: int
    epochs: float
    loss: float
    """Nats, of the last batch."""
    information: float
    """Nats, see `dino.information`, of the last batch."""
    last: dict[str, Any]
    """The evaluation at the end: step, score, interval, effective rank, verdict, ..."""
    best: dict[str, Any]
    """The best evaluation, see `recorder.best_of`."""
    images_per_second: float
    """Source images, over all processes; evaluations and saving not counted."""
    seconds: float
    """Of all sessions, evaluations and saving included."""
    micro_batches: dict[str, Any] | None = None
    """How each process worked on its share of a batch at the end, see `MicroBatches`."""

    @property
    def last_weights(self) -> Path:
        return FullRunFolder(self.run_dir).last_weights

    @property
    def best_weights(self) -> Path:
        return FullRunFolder(self.run_dir).best_weights

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"run_dir": str(self.run_dir), "scales": self.scales.model_dump(mode="json")}
        return values | {"last_weights": str(self.last_weights), "best_weights": str(self.best_weights)}

    def __str__(self) -> str:
        best, last = self.best, self.last
        interval = f" [{last['interval'][0]:.3f}, {last['interval'][1]:.3f}]" if last["interval"] else ""
        return (
            f"{self.scales_name}: {self.steps} steps, {self.epochs:.4g} epochs, loss {self.loss:.3f}, "
            f"{last['score_name']} {last['score']:.3f}{interval} at the end, best {best['score']:.3f} at step "
            f"{best['step']}; {self.images_per_second:.3g} images/s\n{self.last_weights}\n{self.best_weights}"
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
    """Trains in full at some scales. The same call on the same `out` goes on where it was interrupted, to the step.

    Args:
        scales: a preset, a scale card, or the scales themselves.
        data: folders, CSV manifests or "synthetic"; None takes the study's.
        study: built-in study, study file or StudyConfig; its backbone, crops, recipe and panel are used.
        scales_name: for display and the default folder; None takes the name of the preset or card.
        arch: timm's name of another backbone than the study's, without the study's overrides.
        epochs, steps: length of the run, one of them; None for both is 100 epochs. An epoch is all images but the
            panel's, whole batches only. The study's own `pretrain.steps`, the length of a trial, is not used.
        batch_size: of all processes and micro-batches together; None takes the study's.
        accumulate: micro-batches that every process cuts its share of a batch into, more where memory demands it. May
            change on resumption.
        max_memory: what each process may use of its GPU or, on a CPU, of main memory, e.g. "8GB"; None takes the
            study's or what is free.
        init: "none", "imagenet" or a weights file; None takes the study's.
        seed: of weights, order, views and stochastic depth.
        device: "auto", "cpu", "cuda" or "cuda:N"; under torchrun each process takes its own GPU.
        out: run folder; None is runs/pretrain/STUDY-SCALES in the current folder.
        resume: refuse to begin a new run.
        evaluations: how often, evenly spread, the panel is scored and weights are kept; at least once, at the end.
        log_every: steps between lines of the log.
        allow_bad: go on although many files could not be used.
        overrides: any setting of the study by dotted key.
        quiet: print nothing.
        console: where to print; None is standard error.
    Raises:
        ConfigError, DataError: before anything is trained.
        CheckpointError: weights or state cannot be read, or written (a full disk); what was saved is intact.
        DivergedError: the loss is no longer finite.
        InterruptedRun: a signal came; the state is saved.
    """
    check_lengths(epochs, steps, evaluations, log_every)
    loaded = scales if isinstance(scales, AugmentationScales) else load_scales(scales)
    name = scales_name or ("scales" if isinstance(scales, AugmentationScales) else scales_label(scales))
    flags = {"data.sources": source_list(data), "pretrain.batch_size": batch_size, "backbone.init": init}
    flags |= {"pretrain.max_memory": max_memory}
    config = resolve_study(study, arch, flags, overrides or {})
    parameters = check_networks(config)
    folder = FullRunFolder(out or default_folder(config, name, seed))
    display = FullRunDisplay(console or Console(stderr=True), quiet=quiet or global_rank() > 0)

    with display.images() as on_progress, _one_process_at_a_time():
        cache = build_cache(config.data, allow_bad=allow_bad, on_progress=on_progress)
        sanity = check_images(cache, allow_bad=allow_bad)
    for note in cache.source_notes:
        display.say(note)
    train, held_out = checked_panel_split(cache, config)
    steps_per_epoch = len(train) // config.pretrain.batch_size
    config = with_steps(config, steps or max(1, round((epochs or DEFAULT_EPOCHS) * steps_per_epoch)))
    facts = {
        "scales_name": name,
        "parameters": parameters,
        "steps_per_epoch": steps_per_epoch,
        "epochs": config.pretrain.steps / steps_per_epoch,
        "accumulate": accumulate,
        "evaluations": evaluations,
        "data": data_facts(config, cache, sanity, len(train), len(held_out)),
    }
    run = _FullRun(config, loaded, seed, cache, train, held_out, folder, display, facts)
    with init_distributed(device) as context, ExitStack() as held:
        finished = run.prepare(context, resume, held)
        if finished is None:
            finished = run.train(context, accumulate, evaluations, log_every)
    return FullRun(**finished | {"run_dir": folder.path, "scales": loaded})


class _FullRun:
    """What the stages of a full run share."""

    def __init__(
        self,
        config: StudyConfig,
        scales: AugmentationScales,
        seed: int,
        cache: ImageCache,
        train: npt.NDArray[np.int64],
        held_out: npt.NDArray[np.int64],
        folder: FullRunFolder,
        display: FullRunDisplay,
        facts: dict[str, Any],
    ) -> None:
        self.config = config
        self.scales = scales
        self.seed = seed
        self.cache = cache
        self.train_indices = train
        self.held_out = held_out
        self.folder = folder
        self.display = display
        self.facts = facts

    def prepare(self, context: DistributedContext, resume: bool, held: ExitStack) -> dict[str, Any] | None:
        """Lays out the folder, process 0 for all.

        Returns:
            The result where the run has finished before, else None.
        """
        with context.announcing_failure():
            finished = self._prepare_folder(context, resume, held) if context.is_main else None
        context.all_continue()
        context.check_equal({"data": self.cache.fingerprint})
        content = context.broadcast_bytes(None if finished is None else json.dumps(finished).encode())
        return None if content is None else json.loads(content)

    def train(self, context: DistributedContext, accumulate: int, evaluations: int, log_every: int) -> dict[str, Any]:
        """Trains to the end, and writes the result.

        Raises:
            InterruptedRun: a signal came to any process.
        """
        stop = StopFlag()
        recorder = None
        try:
            with stop.listening(), self.display.running(self.config.pretrain.steps):
                with context.announcing_failure():
                    recorder = self._recorder(context, stop) if context.is_main else None
                context.all_continue()
                result = pretrain(
                    self.cache.images,
                    self.train_indices,
                    self.scales,
                    study=self.config,
                    seed=self.seed,
                    state_path=self.folder.state_file,
                    rung_steps=evaluation_steps(self.config.pretrain.steps, evaluations),
                    on_rung=recorder.on_rung if recorder else None,
                    on_log=recorder.on_log if recorder else None,
                    should_stop=stop,
                    log_every=log_every,
                    accumulate=accumulate,
                    context=context,
                    on_micro_batches=recorder.on_micro_batches if recorder else None,
                )
        except Paused:
            number = context.all_reduce_max(stop.signal_number or 0) or int(signal.SIGTERM)
            self._log_end(context, "interrupted", signal=number)
            raise self._interrupted(number, "saved") from None
        except AugscaleError as error:
            self._log_end(context, "failed", reason=str(error))
            raise
        except RuntimeError as error:
            # A batch system's signal also ends processes that compile for this one, which is an error here.
            if stop.signal_number is None:
                raise
            self._log_end(context, "interrupted", signal=stop.signal_number)
            raise self._interrupted(stop.signal_number, "saved as of its last checkpoint") from error
        finally:
            if recorder is not None:
                recorder.close()
        with context.announcing_failure():
            finished = self._finish(result) if context.is_main else None
        context.all_continue()
        content = context.broadcast_bytes(None if finished is None else json.dumps(finished).encode())
        values: dict[str, Any] = json.loads(content or b"{}")
        return values

    def _interrupted(self, number: int, saved: str) -> InterruptedRun:
        return InterruptedRun(
            f"stopped by {signal.Signals(number).name}; the run is {saved} in {self.folder.path}, and the same command "
            "continues it",
            number,
        )

    def _log_end(self, context: DistributedContext, event: str, **fields: Any) -> None:
        """A line for whoever reads the log; the disk may be what failed."""
        if context.is_main:
            with suppress(CheckpointError):
                self.folder.log(event, **fields)

    def _prepare_folder(self, context: DistributedContext, resume: bool, held: ExitStack) -> dict[str, Any] | None:
        self.folder.create()
        lock = try_lock(self.folder.lock_file)
        if lock is None:
            raise ConfigError(f"--out {self.folder.path}: another process is training in it; expected another folder")
        held.callback(lock.release)
        prepare_folder(
            self.folder,
            self.config,
            self.scales,
            seed=self.seed,
            cache=self.cache,
            resume=resume and not self.folder.result_file.exists(),
            facts=self.facts | {"device": str(context.device), "processes": context.world_size},
        )
        finished: dict[str, Any] | None = read_json(self.folder.result_file)
        if finished is not None:
            self.display.say(f"{self.folder.path}: has finished before; nothing to do")
            return finished
        goes_on = self.folder.state_file.exists()
        self._say_what_runs(context, goes_on)
        self.folder.log("continued" if goes_on else "started", device=str(context.device), processes=context.world_size)
        return None

    def _recorder(self, context: DistributedContext, stop: StopFlag) -> Recorder:
        config = self.config
        return Recorder(
            self.folder,
            config=config,
            scales=self.scales,
            panel=build_panel(self.cache.images, self.held_out, self.cache.records, config.probe, config.crops),
            common_views=study_common_views(config, self.cache, self.train_indices),
            device=str(context.device),
            steps_per_epoch=self.facts["steps_per_epoch"],
            facts={
                "scales_name": self.facts["scales_name"],
                "seed": self.seed,
                "data_fingerprint": self.cache.fingerprint,
                "num_images": len(self.train_indices),
                "batch_size": config.pretrain.batch_size,
                "accumulate": self.facts["accumulate"],
                "processes": context.world_size,
            },
            display=self.display,
            should_stop=stop,
        )

    def _finish(self, result: PretrainResult) -> dict[str, Any]:
        evaluations = read_json(self.folder.evaluations_file)
        finished = {
            "scales_name": self.facts["scales_name"],
            "seed": self.seed,
            "steps": result.steps,
            "epochs": self.facts["epochs"],
            "loss": result.loss_history[-1][1],
            "information": result.information,
            "last": evaluations[-1],
            "best": best_of(evaluations),
            "images_per_second": round(result.images_per_second, 2),
            "seconds": round(sum(result.seconds_by_part.values()), 2),
            "micro_batches": result.micro_batches.to_dict(),
        }
        write_json(self.folder.result_file, finished, error_type=CheckpointError)
        self.folder.log("finished", steps=result.steps, best_step=finished["best"]["step"])
        return finished

    def _say_what_runs(self, context: DistributedContext, goes_on: bool) -> None:
        config, data = self.config, self.facts["data"]
        parts = (
            f" in {context.world_size} x {self.facts['accumulate']} parts"
            if context.world_size * self.facts["accumulate"] > 1
            else ""
        )
        self.display.say(
            f"{'continuing' if goes_on else 'pre-training'} {config.backbone.name} "
            f"({self.facts['parameters'] / 1e6:.2g} M parameters, init {config.backbone.init}) at "
            f"{config.crops.global_size} px on {context.world_size} x {context.device}: "
            f"{config.pretrain.steps} steps x {config.pretrain.batch_size} images{parts}, "
            f"{self.facts['epochs']:.4g} epochs"
        )
        self.display.say(f"scales {self.facts['scales_name']}: {describe(self.scales).splitlines()[0]}")
        self.display.say(
            f"{data['num_images']} images ({data['num_train']} to train on, {data['num_panel']} held out to choose the "
            f"best weights by), {data['num_bad']} files set aside; run folder {self.folder.path}"
        )
        for line in range_lines([found for found in data["ranges"] if not found["given"]]):
            self.display.say(f"  grey levels of {line}; data.range = [LOW, HIGH] sets it")
        for line in data["remarks"]:
            self.display.say(f"  {line}")


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
