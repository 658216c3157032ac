"""Entry point of a worker process; the supervisor starts `python -m augscale worker RUN ...` once per GPU or core.

The same command joins a search from another terminal. The password of a storage must then be in the environment.
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
    """Runs a worker. It saves and stops at a signal, and when the process that started it dies.

    Args:
        run_dir: a run folder prepared by `search`.
        device: e.g. "cpu" or "cuda:1".
        threads: CPU threads; None keeps torch's choice.
        num_workers: how many workers share the work, for the forecast of the time budget.
        deadline: seconds since the epoch after which no trial is started; None for no limit.
        free_memory: bytes that this worker may use where the study sets no limit; None: measured now.
        sharing: number of workers on this GPU, among which its free memory is divided when it is measured.
        parent: id of the process whose end makes this one save and stop.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = StopFlag(parent=parent)
    stop.install()
    # Measured once, so that all trials get the same micro-batches: later the other workers use some of the memory.
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
