"""Shared fixtures. Torch runs on one thread so that parallel test workers do not fight over the cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

FUNDUS_DIR = Path(__file__).resolve().parents[2] / "shared" / "data" / "fundus"


@pytest.fixture(scope="session")
def fundus_dir() -> Path:
    """The real photographs beside the checkout; AUGSCALE_REQUIRE_FUNDUS=1 makes their absence a failure."""
    if not FUNDUS_DIR.is_dir():
        message = f"real fundus photographs are not at {FUNDUS_DIR}"
        if os.environ.get("AUGSCALE_REQUIRE_FUNDUS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return FUNDUS_DIR


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Before every test: a search or a worker that a test runs in this process leaves more."""
    import torch

    torch.set_num_threads(1)
