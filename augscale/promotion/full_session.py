"""One session of a full run: lays out or checks its folder, trains, and writes the result.

Every process of torchrun runs the same session; process 0 alone prints and writes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.augmentation.scales import AugmentationScales, describe
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache
from augscale.data.grey_levels import range_lines
from augscale.data.splits import patient_groups
from augscale.errors import AugscaleError, CheckpointError, ConfigError, InterruptedRun, Paused
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.events import PretrainResult
from augscale.pretraining.loop import pretrain
from augscale.promotion.full_display import FullRunDisplay
from augscale.promotion.full_folder import FullRunFolder, prepare_folder
from augscale.promotion.full_settings import evaluation_steps
from augscale.promotion.recorder import Recorder, best_of
from augscale.records.full_run import FullRunFacts, FullRunResult
from augscale.runs.folders import try_lock
from augscale.scoring.batch_norm_views import study_common_views
from augscale.scoring.panel import build_panel
from augscale.system.signals import StopFlag


@dataclass(frozen=True, eq=False)
class FullRunSession:
    """A full run on its images, in its folder and on its processes."""

    config: StudyConfig
    """The study, in which `pretrain.steps` is the length of the run."""
    scales: AugmentationScales
    seed: int
    cache: ImageCache
    train_indices: npt.NDArray[np.int64]
    panel_indices: npt.NDArray[np.int64]
    folder: FullRunFolder
    display: FullRunDisplay
    facts: FullRunFacts
    context: DistributedContext

    def run(self, *, resume: bool, log_every: int) -> FullRunResult:
        """Trains to the end, or returns the result of a run that has finished before.

        Args:
            resume: refuse to begin a new run.
        Raises:
            ConfigError: the folder is in use or holds another run, or there is nothing to resume.
            InterruptedRun: a signal came to any process.
        """
        with ExitStack() as lock:
            finished = self._on_main(lambda: self._prepare(resume, lock))
            self.context.check_equal({"data": self.cache.fingerprint})
            if finished is not None:
                return finished
            result = self._train(log_every)
            finished = self._on_main(lambda: self._finish(result))
            assert finished is not None
            return finished

    def _on_main(self, work: Callable[[], FullRunResult | None]) -> FullRunResult | None:
        """Runs `work` on process 0 and returns its result on all; if it fails, the others stop."""
        with self.context.announcing_failure():
            result = work() if self.context.is_main else None
        self.context.all_continue()
        content = self.context.broadcast_bytes(None if result is None else result.model_dump_json().encode())
        return None if content is None else FullRunResult.model_validate_json(content)

    def _prepare(self, resume: bool, lock: ExitStack) -> FullRunResult | None:
        """Lays out the folder and locks it; returns the result if the run has finished before."""
        folder = self.folder
        folder.create()
        held = try_lock(folder.lock_file)
        if held is None:
            raise ConfigError(f"--out {folder.path}: another process is training in it; expected another folder")
        lock.callback(held.release)
        prepare_folder(
            folder,
            self.config,
            self.scales,
            seed=self.seed,
            cache=self.cache,
            resume=resume and not folder.result_file.exists(),
            facts=self.facts,
        )
        finished = folder.result()
        if finished is not None:
            self.display.say(f"{folder.path}: the run is already finished; nothing to do")
            return finished
        continues = folder.state_file.exists()
        self._announce(continues)
        event = "continued" if continues else "started"
        folder.log(event, device=self.facts.device, processes=self.facts.processes)
        return None

    def _train(self, log_every: int) -> PretrainResult:
        stop, steps = StopFlag(), self.config.pretrain.steps
        with ExitStack() as open_files, self._end_logged(stop), stop.listening(), self.display.running(steps):
            recorder = None
            with self.context.announcing_failure():
                if self.context.is_main:
                    recorder = self._recorder(stop)
                    open_files.callback(recorder.close)
            self.context.all_continue()
            return pretrain(
                self.cache.images,
                self.train_indices,
                self.scales,
                study=self.config,
                seed=self.seed,
                state_path=self.folder.state_file,
                rung_steps=evaluation_steps(steps, self.facts.evaluations),
                on_rung=recorder.on_rung if recorder else None,
                on_log=recorder.on_log if recorder else None,
                should_stop=stop,
                log_every=log_every,
                accumulate=self.facts.accumulate,
                context=self.context,
                on_micro_batches=recorder.on_micro_batches if recorder else None,
                patients=patient_groups(self.cache.records),
            )

    @contextmanager
    def _end_logged(self, stop: StopFlag) -> Iterator[None]:
        """Logs why training ended early, and turns a pause into an InterruptedRun."""
        try:
            yield
        except Paused:
            number = self.context.all_reduce_max(stop.signal_number or 0) or int(signal.SIGTERM)
            self._log_end("interrupted", signal=number)
            raise self._interrupted(number, "saved") from None
        except AugscaleError as error:
            self._log_end("failed", reason=str(error))
            raise
        except RuntimeError as error:
            # A batch system's signal also ends the compilers that this process has started, which is an error here.
            if stop.signal_number is None:
                raise
            self._log_end("interrupted", signal=stop.signal_number)
            raise self._interrupted(stop.signal_number, "saved as of its last checkpoint") from error

    def _interrupted(self, number: int, saved: str) -> InterruptedRun:
        return InterruptedRun(
            f"stopped by {signal.Signals(number).name}; the run is {saved} in {self.folder.path}, and the same command "
            "continues it",
            number,
        )

    def _log_end(self, event: str, **fields: str | int) -> None:
        if self.context.is_main:
            with suppress(CheckpointError):  # the disk may be what failed
                self.folder.log(event, **fields)

    def _recorder(self, stop: StopFlag) -> Recorder:
        cache, config = self.cache, self.config
        return Recorder(
            folder=self.folder,
            config=config,
            scales=self.scales,
            seed=self.seed,
            facts=self.facts,
            panel=build_panel(cache.images, self.panel_indices, cache.records, config.probe, config.crops),
            common_views=study_common_views(config, cache, self.train_indices),
            display=self.display,
            should_stop=stop,
        )

    def _finish(self, result: PretrainResult) -> FullRunResult:
        evaluations = self.folder.evaluations()
        finished = FullRunResult(
            scales_name=self.facts.scales_name,
            seed=self.seed,
            steps=result.steps,
            epochs=self.facts.epochs,
            loss=result.loss_history[-1][1],
            information=result.information,
            last=evaluations[-1],
            best=best_of(evaluations),
            images_per_second=round(result.images_per_second, 2),
            seconds=round(sum(result.seconds_by_part.values()), 2),
            micro_batches=result.micro_batches.to_dict(),
        )
        finished.write(self.folder.result_file, error_type=CheckpointError)
        self.folder.log("finished", steps=finished.steps, best_step=finished.best.step)
        return finished

    def _announce(self, continues: bool) -> None:
        config, facts, data = self.config, self.facts, self.facts.data
        described = describe(self.scales, local_crops=config.draws_local_crops)
        shards = f" in {facts.processes} x {facts.accumulate} parts" if facts.processes * facts.accumulate > 1 else ""
        lines = [
            f"{'continuing' if continues else 'pre-training'} {config.backbone.name} "
            f"({facts.parameters / 1e6:.2g} M parameters, init {config.backbone.init}) at "
            f"{config.crops.global_size} px on {facts.processes} x {facts.device}: {config.pretrain.steps} steps x "
            f"{config.pretrain.batch_size} images{shards}, {facts.epochs:.4g} epochs",
            f"scales {facts.scales_name}: {described.splitlines()[0]}",
            f"{data['num_images']} images ({data['num_train']} to train on, {data['num_panel']} held out to choose the "
            f"best weights by), {data['num_bad']} files set aside; run folder {self.folder.path}",
        ]
        found_ranges = [entry for entry in data["ranges"] if not entry["given"]]
        lines += [f"  grey levels of {line}; data.range = [LOW, HIGH] sets it" for line in range_lines(found_ranges)]
        lines += [f"  {line}" for line in data["remarks"]]
        for line in lines:
            self.display.say(line)
