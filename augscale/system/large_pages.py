"""Large memory pages for programs that train.

A training step on a CPU gets and gives back hundreds of MB many times. With pages of 2 MiB instead of 4 KiB that costs
little: one-thread workers become 3 to 10 % faster and a process with two threads 16 % (docs/experiments.md,
2026-11-24). glibc asks for such pages where a variable says so that it reads once, when a process starts; so a process
that wants them starts itself again. Other C libraries and systems are left alone.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb=1"
COMMANDS = ("worker", "pretrain", "promote")
"""Those that train in their own process."""


def restart_with_large_pages() -> None:
    """Starts this process again, with the same arguments and process number, if it will train and glibc was not told.

    A user's own setting of the variable is left as it is.
    """
    if VARIABLE in os.environ or not variables() or not any(argument in COMMANDS for argument in sys.argv[1:2]):
        return
    from augscale.system.signals import hold_back

    os.environ.update(variables())
    sys.stdout.flush()
    hold_back()  # a stop signal would kill the new program before it has a handler
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def variables() -> dict[str, str]:
    """For the environment of a process that is to be started with large pages."""
    return {VARIABLE: SETTING} if has_glibc() else {}


def has_glibc() -> bool:
    """Whether the C library is glibc, which alone reads the variable."""
    try:
        return "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, ValueError):
        return False
