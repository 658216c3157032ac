from __future__ import annotations

from pathlib import Path

import pytest
from run_folder import write_run

from augscale.reporting.search.results import RunResults, read_run


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search; tests only read it."""
    return write_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="session")
def finished(finished_folder: Path) -> RunResults:
    return read_run(finished_folder)
