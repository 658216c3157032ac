"""The process of a worker, started by the supervisor as `python -m augscale worker RUN ...`, once per GPU or core.

The same command also joins a search from another terminal; a storage with a password wants it in the environment then.
"""

from __future__ import annotations

from pathlib import Path

import optuna

from augscale.runs.folders import RunFolder
from augscale.searching.worker import Worker
from augscale.system.memory import memory_limit
from augscale.system.signals import StopFlag


def run_worker(
    run_dir: Path,
    *,
    device: str,
    threads: int | None = None,
    num_workers: int = 1,
    deadline: float | None = None,
    free_memory: int | None = None,
    sharing: int = 1,
    parent: int | None = None,
) -> None:
    """Entry of the worker process; signals, or the death of the process that started it, make it save and stop.

    Args:
        run_dir: a run folder prepared by `search`.
        device: e.g. "cpu" or "cuda:1".
        threads: CPU threads; None leaves torch's choice.
        num_workers: how many workers share the work, for the forecast of the time budget.
        deadline: seconds since the epoch after which no trial is started; None for no limit.
        free_memory: bytes that this worker may hold where the study sets no limit; None: measured now.
        sharing: workers on this worker's GPU, among whom its free memory is divided then.
        parent: process whose end makes this one save and stop, too.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = StopFlag(parent=parent)
    stop.install()
    # Once, so that all trials are cut alike: what is free later depends on what the other workers are doing.
    free_memory = free_memory or memory_limit(None, torch.device(device), sharing=sharing)
    worker = Worker(
        RunFolder(run_dir),
        device=device,
        num_workers=num_workers,
        deadline=deadline,
        free_memory=free_memory,
        stop=stop,
    )
    worker.work()
