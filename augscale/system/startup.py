"""Start of a process: large memory pages, and imports that the garbage collector skips.

A training step on a CPU allocates and frees hundreds of MB many times. With pages of 2 MiB instead of 4 KiB, one-thread
workers are 3 to 10 % faster, and a process with two threads 16 % (docs/experiments.md, 2026-11-24). glibc reads the
environment variable for large pages only when a process starts, so a process that needs them restarts itself.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_PAGES_VARIABLE = "GLIBC_TUNABLES"
LARGE_PAGES_SETTING = "glibc.malloc.hugetlb=1"
COMMANDS = ("worker", "pretrain", "promote", "evaluate", "diagnose", "validate")
"""Commands that train in their own process, or run frozen networks on many images."""


def restart_with_large_pages() -> None:
    """Restarts this process with large pages, with the same arguments and process id, if its command is one of
    `COMMANDS`.

    Does nothing without glibc, or if the user has set the variable.
    """
    if LARGE_PAGES_VARIABLE in os.environ or not has_glibc() or not {*sys.argv[1:2]} & {*COMMANDS}:
        return
    from augscale.system.signals import hold_back

    os.environ.update(large_pages_environment())
    sys.stdout.flush()
    hold_back()  # a stop signal would kill the new program before it has a handler
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def large_pages_environment() -> dict[str, str]:
    """Environment variables for a process that is to be started with large pages; empty without glibc."""
    return {LARGE_PAGES_VARIABLE: LARGE_PAGES_SETTING} if has_glibc() else {}


def has_glibc() -> bool:
    """True if the C library is glibc, the only one that reads the variable."""
    try:
        return "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, ValueError):
        return False


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Wraps imports of heavy libraries: their objects stay until the process ends and are never garbage-collected.

    torch, torchvision and timm make some hundred thousand objects. Without collection a worker needs 3.0 instead of
    3.9 s of processor time to import them, and 0.25 instead of 1.4 s to end.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
