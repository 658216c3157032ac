"""One call of `lightly_train.pretrain`, as its documentation has a user write it, and a watch on its steps.

Needs `pip install lightly lightly-train`, which are not among this project's dependencies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import lightly_train
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.profilers import Profiler

from augscale.config import StudyConfig
from benchmarks.lightly_train_recipe import pretrain_arguments


class StepWatch(Profiler):
    """Sees every step begin, by Lightning's interface for profilers.

    lightly-train takes no callback besides its own ones and no profiler object; the trainer is given this one at `fit`.
    """

    FETCH = "[_TrainingEpochLoop].train_dataloader_next"
    STEP = "run_training_batch"

    def __init__(self, before_step: Callable[[], None]) -> None:
        super().__init__()
        self.before_step = before_step
        self.waited = 0.0
        """Seconds that the loop waited for data since it began."""
        self.last_step_ended = 0.0
        self._fetch_began = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While entered, every trainer reports to this watch."""
        fit = Trainer.fit

        def watched_fit(trainer: Trainer, *arguments: Any, **options: Any) -> None:
            trainer.profiler = self
            fit(trainer, *arguments, **options)

        Trainer.fit = watched_fit
        try:
            yield
        finally:
            Trainer.fit = fit

    def start(self, action_name: str) -> None:
        if action_name == self.FETCH:
            self.before_step()
            self._fetch_began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name == self.FETCH:
            self.waited += time.perf_counter() - self._fetch_began
        elif action_name == self.STEP:
            self.last_step_ended = time.perf_counter()


def pretrain(
    images: Path,
    out: Path,
    config: StudyConfig,
    device: str,
    workers: int,
    precision: str,
    steps: int,
    watch: StepWatch,
) -> None:
    """Calls lightly-train.

    Args:
        images: the folder that it trains on.
        out: a folder for all that it writes, its caches too.
        config: model, head, crops, batch.
        device: as torch calls it.
        workers: DataLoader workers.
        precision: as Lightning calls it.
        steps: number of updates, of one epoch.
        watch: is told of every step.
    """
    on_gpu = device.startswith("cuda")
    out.mkdir(parents=True)
    os.environ |= {"LIGHTLY_TRAIN_CACHE_DIR": str(out / "cache"), "LIGHTLY_TRAIN_EVENTS_DISABLED": "1"}
    # What it says goes to a file: the process's own standard output carries the benchmark's answers.
    with (
        (out / "console.log").open("w") as console,
        redirect_stdout(console),
        redirect_stderr(console),
        watch.watching(),
    ):
        lightly_train.pretrain(
            out=out / "run",
            data=images,
            epochs=1,
            accelerator="gpu" if on_gpu else "cpu",
            devices=[torch.device(device).index or 0] if on_gpu else 1,
            num_workers=workers,
            precision=precision,
            trainer_args={"max_steps": steps},
            **pretrain_arguments(config),
        )
