"""Shared fixtures, and what keeps the tests fast.

Torch runs on one thread so that parallel test workers do not fight over the cores. Where a test takes two, threads that
wait sleep instead of spinning: on shared cores the spinning took nine times the CPU seconds of the work. Imports make
many lasting objects, which the garbage collector does not look through again. Files are not forced to disk: tests check
that they are whole or absent, and no test cuts the power.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FUNDUS_DIR = Path(__file__).resolve().parents[2] / "shared" / "data" / "fundus"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imports the tests without garbage collection, which took a fifth of that time, and never looks at it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def fundus_dir() -> Path:
    """The real photographs beside the checkout; AUGSCALE_REQUIRE_FUNDUS=1 makes their absence a failure."""
    if not FUNDUS_DIR.is_dir():
        message = f"real fundus photographs are not at {FUNDUS_DIR}"
        if os.environ.get("AUGSCALE_REQUIRE_FUNDUS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return FUNDUS_DIR


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images go to a cache of this test session, not to the user's; processes that tests start share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_fsync() -> Iterator[None]:
    """A search of eight trials forces some 250 files to disk, which costs as long as some of its trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Before every test: a search or a worker that a test runs in this process leaves more."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images() -> npt.NDArray[np.uint8]:
    """Random images for training runs of a few steps."""
    return np.random.default_rng(0).integers(0, 256, (14, 40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def indices() -> npt.NDArray[np.int64]:
    """Not all rows of `images`, and not in order."""
    return np.array([13, 2, 5, 7, 0, 1, 9, 11, 4, 12, 6], dtype=np.int64)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A full run of two epochs on built-in photographs."""
    from augscale.promotion.full_run import pretrain_full

    out = tmp_path_factory.mktemp("full") / "run"
    return pretrain_full("weak", study="smoke", epochs=2, evaluations=3, log_every=2, device="cpu", quiet=True, out=out)
