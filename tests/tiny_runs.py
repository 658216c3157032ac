"""A study whose training takes milliseconds, and searches without processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from augscale.config import StudyConfig

TINY_VIT = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
TINY_RESNET = {"name": "resnet10t", "overrides": {"channels": [8, 8, 16, 16], "stem_width": 8}}


def tiny_study(
    *, backbone: dict[str, Any] | None = None, crops: dict[str, Any] | None = None, **pretrain: Any
) -> StudyConfig:
    """A study whose training takes milliseconds; every schedule moves within its few steps."""
    recipe = {
        "steps": 6,
        "batch_size": 4,
        "lr": 2e-3,
        "lr_scaling": False,
        "warmup_fraction": 0.34,
        "teacher_momentum": 0.9,
        "teacher_temp_start": 0.04,
        "teacher_temp": 0.07,
        "teacher_temp_warmup_fraction": 0.5,
        "freeze_last_layer_fraction": 0.34,
        "out_dim": 24,
        "head_hidden_dim": 16,
        "head_bottleneck_dim": 8,
        "norm_last_layer": False,
        "precision": "fp32",
        "checkpoint_seconds": 1e6,
    }
    return StudyConfig.model_validate(
        {
            "backbone": {"name": "vit_tiny_patch16_224", "overrides": TINY_VIT, "drop_path": 0.0} | (backbone or {}),
            "crops": {"global_size": 32, "local_size": 16, "n_local": 2} | (crops or {}),
            "pretrain": recipe | pretrain,
        }
    )


@contextmanager
def worker_in_this_process() -> Iterator[None]:
    """A search trains in this process instead of in workers: for tests whose subject is not the processes.

    The start of a worker costs more than all trials of the study `smoke`.
    """
    from augscale.runs.folders import RunFolder
    from augscale.searching import session
    from augscale.searching.worker import Worker
    from augscale.system.devices import WorkerPlan

    def work(
        run: RunFolder, plan: WorkerPlan, *, deadline: float | None, on_poll: Callable[[], None], **_: Any
    ) -> None:
        Worker(run, device=plan.devices[0], deadline=deadline).work()
        on_poll()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "supervise", work)
        yield


def searched(out: Path, *arguments: str) -> Result:
    """`augscale search --study smoke` in this process; an error is the result's `exception`."""
    from augscale.cli.app import app

    with worker_in_this_process():
        return CliRunner().invoke(app, ["search", "--study", "smoke", "--out", str(out), "--workers", "1", *arguments])
