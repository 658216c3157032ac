"""Chooses the arithmetic of training on a device: fp32, or bf16 autocast where that is faster."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_BENCHMARK_SHAPE = (512, 256, 512)
"""Rows, inner size and columns of the timed matrix product; the size of a small backbone's layers."""
_BENCHMARK_SECONDS = 0.05
_GROUPS = 6
"""Position of `groups` among the arguments of `torch.conv2d`."""
_SMALLEST_GAIN = 1.2
"""Speed-up that bf16 must reach. It is about 2 with native bf16, and well below 1 with emulated bf16."""


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """The precision that a setting stands for on a device.

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
        precision: "fp32" or "bf16".
        device: device of the forward pass.
        keep_casts: cast weights once instead of at every use. All threads share one cache of casts, and any thread that
            leaves its context clears it, so with several threads rounding would depend on their timing.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=keep_casts)


class GroupedConvolutionsInFp32(TorchFunctionMode):
    """For the context, convolutions with groups leave bf16 autocast on a CPU; other layers stay in it.

    oneDNN's gradient of a depthwise convolution in bf16 is several times slower than in fp32. A step of
    EfficientNet-Lite0 takes half the time so (docs/experiments.md, 2026-11-30), and rounds less.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or (args[_GROUPS] if len(args) > _GROUPS else kwargs.get("groups", 1)) == 1:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            image, *others = args
            return func(image.float(), *others, **kwargs)


def has_grouped_convolutions(network: nn.Module) -> bool:
    """True if a convolution has groups, as depthwise ones have."""
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())


@contextmanager
def tf32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Uses TF32 for the fp32 products of a bf16 run on a GPU (the head's last layer), forward and backward.

    Operands keep 10 of 23 bits, sums all of them: a product of unit vectors of 256 numbers has an error of about 3e-5,
    at the lowest temperature 1e-3 of a log-probability, a hundredth of bf16's error.
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
    """Times a product in both precisions; CPU flags do not tell whether this build of torch uses the instructions."""
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
