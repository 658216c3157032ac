"""Which arithmetic a device trains in: fp32, or bf16 autocast where that is faster."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BENCHMARK_SHAPE = (512, 256, 512)
"""Rows, inner and columns of the trial product; the size of a small backbone's layers."""
_BENCHMARK_SECONDS = 0.05
_SMALLEST_GAIN = 1.2
"""bf16 must be this much faster. Native bf16 gives about 2, emulated bf16 well below 1; nothing lies near."""


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """What a precision setting stands for on a device.

    Args:
        precision: "fp32", "bf16", or "auto": bf16 on GPUs that have it and on CPUs that are measurably faster in it.
        device: e.g. "cpu" or "cuda:0".
    Returns:
        "fp32" or "bf16".
    """
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        with torch.cuda.device(device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _cpu_is_faster_in_bf16() else "fp32"


def autocast(precision: str, device: torch.device, *, keep_casts: bool = True) -> torch.autocast:
    """The context for forward passes; does nothing in "fp32".

    Args:
        keep_casts: whether weights are cast once and not at every use. Casts are kept for all threads together, and
            forgotten when any leaves its context: with several, rounding would depend on who comes first.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=keep_casts)


@contextmanager
def tf32_products(precision: str, device: torch.device) -> Iterator[None]:
    """TF32 for what a bf16 run still multiplies in fp32 on a GPU (the head's last layer), forward and backward.

    Operands lose 13 of 23 bits, sums do not: of unit vectors of 256 numbers a product errs by some 3e-5, which at the
    lowest temperature is 1e-3 of a log-probability, a hundredth of what bf16 would make of it.
    """
    if precision != "bf16" or device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@functools.cache
def _cpu_is_faster_in_bf16() -> bool:
    """Measures instead of reading CPU flags: what counts is what this build of torch makes of the instructions."""
    rows, inner, columns = _BENCHMARK_SHAPE
    operands = {
        dtype: (torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    }
    best = dict.fromkeys(operands, float("inf"))
    end = time.perf_counter() + _BENCHMARK_SECONDS
    repeats = 0
    while repeats < 3 or time.perf_counter() < end:
        for dtype, (left, right) in operands.items():
            start = time.perf_counter()
            left @ right
            best[dtype] = min(best[dtype], time.perf_counter() - start)
        repeats += 1
    return best[torch.float32] > _SMALLEST_GAIN * best[torch.bfloat16]
