"""Estimated peak memory of a training step on a CPU, from forward and backward passes of two and three images.

The bytes of all tensors are recorded after every operation. The operations and their order do not depend on the number
of images, and the bytes after each are a constant (gradients, weights in bf16) plus a term per image (activations). Two
passes determine both for every operation. The peak for any number of images is the maximum of this sum over the
operations, even if it occurs at another operation than in the small passes.

Buffers inside operations and memory that the allocator keeps are not seen, together a fifth to a third. `HEADROOM` and
`SLACK_BYTES` cover them, as measured by `benchmarks.step_memory` (docs/experiments.md, 2026-11-24).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from augscale.augmentation.views import Views
from augscale.config import CropsConfig
from augscale.pretraining.out_of_memory import put_back

HEADROOM = 1.5
SLACK_BYTES = 64 * 10**6
"""Constant part of the memory that is not seen, e.g. code that libraries load at first use."""
PROBE_SIZES = (2, 3)
"""Numbers of images in the passes; at least 2, because tensors of one row have another layout."""
_VIEW_COPIES = 8
"""Number of chunk-sized tensors that are alive at once while views are made."""
_VIEW_CHUNK_BYTES = 4 * 2**20
"""Bytes of a chunk of views on a CPU, see `views._CHUNK_VALUES`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepMemory:
    """Memory of the views, forward and backward pass of a micro-batch, as a function of its images."""

    constant: npt.NDArray[np.float64]
    """Bytes after each operation, whatever the number of images."""
    per_image: npt.NDArray[np.float64]
    """Bytes per image after each operation."""
    gradients: int
    """Bytes of the gradients."""
    crops: CropsConfig

    def peak(self, num_images: int, *, accumulating: bool = False, num_threads: int = 1) -> int:
        """Peak bytes in addition to what is allocated before the step, with headroom.

        Args:
            num_images: size of the micro-batch.
            accumulating: gradients of an earlier micro-batch exist, and this one's are added to them.
            num_threads: threads that divide the micro-batch, each with its own gradients, see `threads`.
        """
        held = round(HEADROOM * float(np.max(self.constant + self.per_image * num_images))) + SLACK_BYTES
        shards = math.gcd(num_threads, num_images)
        held += shards * self.gradients if shards > 1 else 0
        crops = self.crops
        view_bytes = [4 * 3 * crops.n_global * crops.global_size**2, 4 * 3 * crops.n_local * crops.local_size**2]
        making_views = _VIEW_COPIES * min(_VIEW_CHUNK_BYTES, max(view_bytes) * num_images)
        accumulated = self.gradients if accumulating else 0
        return sum(view_bytes) * num_images + accumulated + max(making_views, held)


def extrapolated(timelines: Sequence[npt.NDArray[np.int64]], gradients: int, crops: CropsConfig) -> StepMemory:
    """Memory for any number of images.

    Args:
        timelines: live bytes after each operation of the passes of `PROBE_SIZES` images. If the passes did not run the
            same operations, all memory is assumed proportional to the number of images.
    """
    small, large = timelines
    per_image, constant = large / PROBE_SIZES[1], np.zeros(len(large))
    if len(small) == len(large):
        per_image = (large - small) / (PROBE_SIZES[1] - PROBE_SIZES[0])
        constant = large - per_image * PROBE_SIZES[1]
    return StepMemory(constant=constant, per_image=per_image, gradients=gradients, crops=crops)


_MEASURED: dict[str, StepMemory] = {}
"""Measurements by key: the trials of a worker need the same memory, so only the first measures it."""


def measure_step(
    forward_backward: Callable[[Views], object], networks: Sequence[nn.Module], crops: CropsConfig, *, key: str
) -> StepMemory:
    """Runs the passes on noise; gradients and changed buffers are removed afterwards.

    Args:
        networks: student and teacher.
        key: names everything that memory depends on; a step with the same key is not measured again.
    """
    if key not in _MEASURED:
        parameters = [tensor for network in networks for tensor in network.parameters()]
        buffers = [tensor for network in networks for tensor in network.buffers()]
        timelines, gradients = [], 0
        for num_images in PROBE_SIZES:
            views = _noise(crops, num_images)
            before = [buffer.clone() for buffer in buffers]
            try:
                with LiveBytes([*parameters, *buffers]) as live:
                    forward_backward(views)
                gradients = sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
            finally:
                put_back(buffers, before)
                for parameter in parameters:
                    parameter.grad = None
            timelines.append(np.array(live.timeline))
        _MEASURED[key] = extrapolated(timelines, gradients, crops)
    return _MEASURED[key]


class LiveBytes(TorchDispatchMode):
    """Context manager that records the bytes of live new tensors after each operation.

    Args:
        known: existing tensors, which are not counted.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.timeline: list[int] = []
        self._live = 0
        self._storages: dict[int, Any] = {}
        for tensor in known:
            self._watch(tensor, counted=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf, counted=True)
        self.timeline.append(self._live)
        return result

    def _watch(self, tensor: Tensor, *, counted: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = storage.nbytes() if counted else 0

        def freed(_: Any) -> None:
            del self._storages[key]
            self._live -= size

        self._live += size
        self._storages[key] = weakref.ref(storage, freed)


def missing_moments(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of AdamW's moments that are not allocated yet."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return sum(2 * parameter.nbytes for parameter in parameters if not optimizer.state.get(parameter))


def _noise(crops: CropsConfig, num_images: int) -> Views:
    """Views of noise: memory does not depend on their content."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((crops.n_global, crops.global_size), (crops.n_local, crops.local_size))
    views = [torch.randn(number * num_images, 3, side, side, generator=generator) for number, side in sizes]
    return Views(global_crops=views[0], local_crops=views[1])
