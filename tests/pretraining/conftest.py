"""Images for training runs of a few steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def images() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (14, 40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def indices() -> npt.NDArray[np.int64]:
    """Not all rows, and not in order."""
    return np.array([13, 2, 5, 7, 0, 1, 9, 11, 4, 12, 6], dtype=np.int64)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A full run of two epochs on built-in photographs."""
    from augscale.pretraining.full import pretrain_full

    out = tmp_path_factory.mktemp("full") / "run"
    return pretrain_full("weak", study="smoke", epochs=2, evaluations=3, log_every=2, device="cpu", quiet=True, out=out)
