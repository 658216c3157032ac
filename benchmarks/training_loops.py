"""The training loops that `throughput` compares, each in a process of its own that runs some steps when told to.

A process prints a line of JSON when it is ready (a warm-up is done) and after every turn: what share of the turn's
seconds went where, as far as the loop knows it. With loader workers it first runs, when told to, as many steps as they
have made batches for while others had their turn, and prints a line before it goes on with those that count.
lightly-train, which is one call, prints a last line when its call has returned: the seconds that the call cost besides
its steps.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig
from augscale.data.cache import build_cache
from augscale.networks.precision import resolve_precision
from benchmarks.flops import matrix_product_rate
from benchmarks.lightly_train_recipe import link_images

Job = dict[str, Any]
WARM_UP_STEPS = 3
MANY_FILES = 1_000_000
BATCHES_PER_WORKER = 2
"""That a DataLoader's worker makes ahead, by default."""
_ANSWERS = sys.stdout


def _answer(content: dict[str, float]) -> None:
    """Reports, then waits to be told to go on."""
    print(json.dumps(content), file=_ANSWERS, flush=True)
    if not sys.stdin.readline():
        sys.exit(0)


def run_ours(config: StudyConfig, job: Job, workers: int) -> None:
    """`pretrain` itself: it stops at every logged step until it is told to go on."""
    from augscale.pretraining import loop
    from augscale.pretraining.events import StepLog

    steps, turns = int(job["steps"]), 10_000
    cache = build_cache(config.data)
    config = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"steps": steps * turns})})
    trainers: list[loop.Trainer] = []
    before: dict[str, float] = {}
    start = time.perf_counter()

    def report(entry: StepLog) -> None:
        nonlocal start, before
        now, seconds = time.perf_counter(), dict(trainers[0].clock.seconds)
        with trainers[0].clock.stopped():
            _answer({part: (seconds[part] - before.get(part, 0.0)) / (now - start) for part in seconds})
        before, start = seconds, time.perf_counter()

    class Watched(loop.Trainer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            trainers.append(self)

    loop.Trainer = Watched  # type: ignore[assignment,misc]
    loop.pretrain(
        cache.images,
        np.arange(len(cache.images)),
        load_scales("strong"),
        study=config,
        seed=0,
        device=job["device"],
        on_log=report,
        log_every=steps,
    )


def run_official(config: StudyConfig, job: Job, workers: int) -> None:
    from benchmarks.official_recipe import OfficialLoop

    _run_steps(OfficialLoop(_many(job["files"]), config, job["device"], workers).step, job, workers)


def run_lightly(config: StudyConfig, job: Job, workers: int) -> None:
    from benchmarks.lightly_recipe import LightlyLoop

    _run_steps(LightlyLoop(_many(job["files"]), config, job["device"], workers).step, job, workers)


def _many(files: list[str]) -> list[Path]:
    """The files again and again, so that no epoch ends: then a loader's workers start anew, which takes its time."""
    return [Path(file) for file in files] * -(-MANY_FILES // len(files))


def run_lightly_train(config: StudyConfig, job: Job, workers: int, precision: str) -> None:
    """One call of lightly-train: at every turn's end it stops before its next step until it is told to go on."""
    start = time.perf_counter()
    import lightly_train  # noqa: F401

    cost = {"import": time.perf_counter() - start}
    from benchmarks.lightly_train_call import StepWatch, pretrain

    made_ahead, device = BATCHES_PER_WORKER * workers, job["device"]
    turn_steps = made_ahead + int(job["steps"])
    # One step more than the turns have: what precedes it is the last turn's end.
    steps = WARM_UP_STEPS + turn_steps * int(job["turns"]) + 1
    folder = Path(job["folder"]) / f"lightly-train-{os.getpid()}"
    link_images([Path(file) for file in job["files"]], folder / "images", steps * config.pretrain.batch_size)
    step, waited = 0, 0.0

    def before_step() -> None:
        nonlocal start, step, waited
        if step == 0:
            cost["before the first step"] = time.perf_counter() - start
        of_turn = (step - WARM_UP_STEPS) % turn_steps if step >= WARM_UP_STEPS else -1
        if of_turn == 0 or of_turn == made_ahead:
            _wait_for(device)
            share = (watch.waited - waited) / (time.perf_counter() - start)
            nothing_counted = step == WARM_UP_STEPS or of_turn != 0
            _answer({} if nothing_counted else {"waiting for data": share})
            waited, start = watch.waited, time.perf_counter()
        step += 1

    watch = StepWatch(before_step)
    start = time.perf_counter()
    pretrain(folder / "images", folder / "out", config, device, workers, precision, steps, watch)
    _answer(cost | {"after the last step": time.perf_counter() - watch.last_step_ended})


def run_matrix_products(config: StudyConfig, job: Job, workers: int) -> None:
    """No training: what the device does at most."""
    precision = resolve_precision(config.pretrain.precision, job["device"])
    matrix_product_rate(job["device"], precision)
    _answer({})
    while True:
        _answer({"operations per second": matrix_product_rate(job["device"], precision)})


def _run_steps(step: Callable[[], float], job: Job, workers: int) -> None:
    for _ in range(WARM_UP_STEPS):
        step()
    _wait_for(job["device"])
    _answer({})
    while True:
        if workers:
            for _ in range(BATCHES_PER_WORKER * workers):
                step()
            _wait_for(job["device"])
            _answer({})
        start = time.perf_counter()
        waited = sum(step() for _ in range(int(job["steps"])))
        _wait_for(job["device"])
        _answer({"waiting for data": waited / (time.perf_counter() - start)})


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


LOOPS: dict[str, Callable[[StudyConfig, Job, int], None]] = {
    "augscale": run_ours,
    "official": run_official,
    "lightly": run_lightly,
    "lightly-train bf16-mixed": functools.partial(run_lightly_train, precision="bf16-mixed"),
    "lightly-train 32-true": functools.partial(run_lightly_train, precision="32-true"),
    "products": run_matrix_products,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("job", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    job = json.loads(arguments.job.read_text(encoding="utf-8"))
    LOOPS[arguments.loop](StudyConfig.model_validate(job["study"]), job, arguments.workers)


if __name__ == "__main__":
    main()
