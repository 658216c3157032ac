"""Free memory and memory limits of this process, and sizes with units."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SHARE_OF_AVAILABLE = 0.9
"""Share of free memory for training; the rest is for the scoring of rungs and for other programs."""
_NO_LIMIT = 2**60
"""Control groups of version 1 write a number near 2^63 if there is no limit."""


def parse_size(text: str) -> int:
    """Bytes of a size with a unit: "8GB", "8 G" (powers of 1000), "7.5GiB" (powers of 1024), "800MB", "65536 B".

    Raises:
        ValueError: no number above 0 with a unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgt])(i?)b?|b)\s*", text, re.IGNORECASE)
    size = 0
    if match:
        number, prefix, binary = match.groups()
        size = int(float(number) * (1024 if binary else 1000) ** _UNITS[(prefix or "").lower()])
    if size < 1:
        raise ValueError(f"{text!r}: expected a number above 0 with a unit, e.g. 8GB, 7.5GiB or 800MB")
    return size


def size_text(size: float) -> str:
    """1.25 GB, 800 MB, 12 kB: three digits, powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB" if abs(size) < 999.5 else f"{size:.0f} GB"


def available_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that can still be used without swapping, on the host and in every control group of this process.

    Args:
        proc, cgroups: Linux's folders for them.
    Returns:
        The smallest of the kernel's MemAvailable and of the memory left in each control group (version 1 or 2),
        reclaimable file caches included; None if none of it can be read, as on macOS.
    """
    found = list(_left_in_control_groups(proc, cgroups))
    host = _table(proc / "meminfo").get("MemAvailable")
    if host is not None:
        found.append(host * 1024)
    return max(0, min(found)) if found else None


def resident_memory(proc: Path = Path("/proc")) -> int:
    """Bytes of main memory that this process holds, without mapped files, which the kernel can reclaim.

    Freed memory that the C library still holds, after a trial as much as the trial took, is first returned to the
    system. If the current value cannot be read, the result is the peak of the process, files included.
    """
    _trim()
    anonymous = _table(proc / "self" / "status").get("RssAnon")
    if anonymous is not None:
        return anonymous * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def memory_limit(
    max_memory: str | None, device: torch.device, measured: int | None = None, *, sharing: int = 1
) -> int | None:
    """Bytes that this process may hold in total: of main memory, or of a GPU without CUDA's own context.

    Args:
        max_memory: the setting, e.g. "8GB".
        measured: the limit as measured earlier; used if `max_memory` is None.
        sharing: processes on this device among which free memory is divided, besides those of torchrun.
    Returns:
        If neither is given: the memory that this process holds plus nine tenths of the free memory; on a CPU this is
        also divided among the processes that torchrun has started on the host. None if that is unknown.
    """
    if max_memory is not None:
        return parse_size(max_memory)
    if measured is not None:
        return measured
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(_SHARE_OF_AVAILABLE * free / sharing) + int(torch.cuda.memory_reserved(device))
    available = available_memory()
    if available is None:
        return None
    local_processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return int(_SHARE_OF_AVAILABLE * available / (sharing * local_processes)) + resident_memory()


def _trim() -> None:
    """glibc's malloc_trim; other C libraries do not have it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def _left_in_control_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    for line in _lines(proc / "self" / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root, names = cgroups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = cgroups / "memory"
        else:
            continue
        # Inside a container the path may be the host's and not exist; the root is then the container's own group.
        here = root / path.strip("/")
        for folder in (here, *here.parents):
            if folder.is_relative_to(root):
                yield from _left(folder, *names)


def _left(folder: Path, limit_name: str, used_name: str, cache_name: str) -> Iterator[int]:
    limit, used = (next(iter(_lines(folder / name)), "") for name in (limit_name, used_name))
    if limit.isdigit() and used.isdigit() and int(limit) < _NO_LIMIT:
        yield int(limit) - int(used) + _table(folder / "memory.stat").get(cache_name, 0)


def _table(path: Path) -> dict[str, int]:
    """Numbers by name, from lines as in /proc/meminfo."""
    words = [line.replace(":", " ").split() for line in _lines(path)]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
