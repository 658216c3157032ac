"""The training loops that `throughput` compares, each in a process of its own that runs some steps when told to.

A process prints a line of JSON when it is ready (a warm-up is done) and after every turn: what share of the turn's
seconds went where, as far as the loop knows it.
"""

from __future__ import annotations

import argparse
import json
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
from augscale.pretraining.precision import resolve_precision
from benchmarks.flops import matrix_product_rate

Job = dict[str, Any]
WARM_UP_STEPS = 3


def _answer(content: dict[str, float]) -> None:
    """Reports, then waits to be told to go on."""
    print(json.dumps(content), flush=True)
    if not sys.stdin.readline():
        sys.exit(0)


def run_ours(config: StudyConfig, job: Job, workers: int) -> None:
    """`pretrain` itself: it stops at every logged step until it is told to go on."""
    from augscale.pretraining import loop

    steps, turns = int(job["steps"]), 10_000
    cache = build_cache(config.data)
    config = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"steps": steps * turns})})
    run: list[loop.TrainingRun] = []
    before: dict[str, float] = {}
    start = time.perf_counter()

    def report(entry: loop.StepLog) -> None:
        nonlocal start, before
        now, seconds = time.perf_counter(), dict(run[0].clock.seconds)
        _answer({part: (seconds[part] - before.get(part, 0.0)) / (now - start) for part in seconds})
        before, start = seconds, time.perf_counter()

    class Watched(loop.TrainingRun):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            run.append(self)

    loop.TrainingRun = Watched  # type: ignore[assignment,misc]
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

    _run_steps(OfficialLoop([Path(file) for file in job["files"]], config, job["device"], workers).step, job)


def run_lightly(config: StudyConfig, job: Job, workers: int) -> None:
    from benchmarks.lightly_recipe import LightlyLoop

    _run_steps(LightlyLoop([Path(file) for file in job["files"]], config, job["device"], workers).step, job)


def run_matrix_products(config: StudyConfig, job: Job, workers: int) -> None:
    """No training: what the device does at most."""
    precision = resolve_precision(config.pretrain.precision, job["device"])
    matrix_product_rate(job["device"], precision)
    _answer({})
    while True:
        _answer({"operations per second": matrix_product_rate(job["device"], precision)})


def _run_steps(step: Callable[[], float], job: Job) -> None:
    for _ in range(WARM_UP_STEPS):
        step()
    _wait_for(job["device"])
    _answer({})
    while True:
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
