"""Checks this installation: devices, libraries, storage, disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from augscale.runs.folders import versions
from augscale.system.devices import cpu_cores

MIN_FREE_GB = 2.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check; `ok` is False if something that a search needs does not work."""

    name: str
    ok: bool
    detail: str


def examine() -> list[Finding]:
    """Tries each part that a search needs; the detail of a failed check is its error."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("versions", lambda: ", ".join(f"{name} {number}" for name, number in versions().items())),
        ("device", _device),
        ("precision", _precision),
        ("faiss", _faiss),
        ("torchvision", _torchvision),
        ("storage", _storage),
        ("cache", _cache),
        ("free disk", _disk),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name=name, ok=True, detail=check()))
        except Exception as error:  # any failure must become a line, not a traceback
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            findings.append(Finding(name=name, ok=False, detail=text))
    return findings


def _device() -> str:
    import torch

    cpu = f"{cpu_cores()} CPU cores"
    if not torch.cuda.is_available():
        return f"{cpu}, no CUDA device (searches run on the CPU)"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{len(names)} x {names[0]} (CUDA {torch.version.cuda}), {cpu}"


def _precision() -> str:
    from augscale.networks.precision import resolve_precision
    from augscale.system.devices import resolve_device

    device = resolve_device("auto")
    return f"{resolve_precision('auto', device)} on {device}"


def _faiss() -> str:
    import numpy as np

    from augscale.scoring.distances import nearest_negatives

    points = np.eye(4, dtype=np.float32)
    nearest_negatives(points, np.arange(4))
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return f"{faiss.__version__}, {gpus} GPUs, {faiss.omp_get_max_threads()} threads"


def _torchvision() -> str:
    import torch
    import torchvision

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return f"{torchvision.__version__} fits torch {torch.__version__}"


def _storage() -> str:
    import optuna

    from augscale.searching.storage import open_storage, sqlite_storage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(storage=open_storage(sqlite_storage(Path(folder) / "study.db")))
        study.tell(study.ask(), 0.0)
    return "SQLite works"


def _cache() -> str:
    from augscale.data.cache import default_cache_root

    root = default_cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
        return f"{root} can be written"


def _disk() -> str:
    from augscale.data.cache import default_cache_root

    lines = []
    for folder in (Path.cwd(), default_cache_root()):
        free = shutil.disk_usage(folder).free / 1e9
        if free < MIN_FREE_GB:
            raise OSError(f"{folder} has {free:.1f} GB free; expected at least {MIN_FREE_GB:.0f} GB")
        lines.append(f"{free:.0f} GB at {folder}")
    return ", ".join(lines)
