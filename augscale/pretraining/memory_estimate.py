"""How much memory a training step will take, from forward and backward passes of two and three images.

Every operation of a pass is looked at as it runs, and the bytes of all tensors that live after it are noted. The same
operations run in the same order whatever the number of images, and what each leaves is a constant (gradients,
normalised weights, weights in bf16) plus a share per image (activations). So two passes give both for every operation
on its own, and the largest over the operations is the peak of any number of images, also where another operation is
the largest than in the small passes.

What it does not see: buffers inside single operations, and what the allocator holds beyond what is asked of it, on a
CPU a quarter of the whole. `HEADROOM` and `SLACK_BYTES` are for that, measured on a CPU and, with
small networks, on one GPU (docs/pretraining.md).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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

HEADROOM = {"cpu": 1.5, "cuda": 1.2}
"""What the passes do not see, as a factor on what they do."""
SLACK_BYTES = 64 * 10**6
"""What they do not see whatever the size: code that libraries make when they are first used, and the like."""
PROBE_SIZES = (2, 3)
"""Images of the two passes; from 2 on, because tensors of one row are laid out, and copied, otherwise."""
_VIEW_COPIES = 8
"""Tensors of the size of a chunk of views that live at once while views are made."""
_VIEW_CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 4 * 2**27}
"""See `views._CHUNK_VALUES`."""


class LiveBytes(TorchDispatchMode):
    """While it is entered: how many bytes of new tensors live after each operation.

    Args:
        known: tensors that are there before and are not counted.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.timeline: list[int] = []
        self._live = 0
        self._storages: dict[int, Any] = {}
        for tensor in known:
            self._see(tensor, counted=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf, counted=True)
        self.timeline.append(self._live)
        return result

    def _see(self, tensor: Tensor, counted: bool) -> None:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """What one forward and backward pass took beyond what lived before it."""

    num_images: int
    timeline: npt.NDArray[np.int64]
    """Bytes that live after each operation."""
    gradients: int
    """Bytes of the gradients at the end."""
    unseen: int = 0
    """Bytes that a GPU's allocator gave out at most, beyond the largest of the timeline."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepMemory:
    """What the forward and backward pass of any micro-batch takes beyond what lives before it."""

    constant: npt.NDArray[np.float64]
    """Bytes after each operation, whatever the number of images."""
    per_image: npt.NDArray[np.float64]
    """Bytes after each operation and image."""
    gradients: int
    """Bytes of the gradients, which the passes of further micro-batches find there already."""
    headroom: float
    """See `HEADROOM`."""
    unseen: float = 0.0
    """Bytes per image, see `Pass`."""

    def peak(self, num_images: int, *, further: bool) -> int:
        """Bytes, with headroom.

        Args:
            num_images: of the micro-batch.
            further: whether gradients of an earlier micro-batch are there, to which this one's are added.
        """
        most = float(np.max(self.constant + self.per_image * num_images)) + self.unseen * num_images
        return round(self.headroom * most) + SLACK_BYTES + (self.gradients if further else 0)


def from_passes(passes: Sequence[Pass], headroom: float) -> StepMemory:
    """What one or two passes say about any number of images.

    Args:
        passes: the one of fewer images first.
        headroom: see `HEADROOM`.
    Returns:
        From one pass an upper bound: everything taken to grow with the images. So, too, from two that did not run the
        same operations.
    """
    last = passes[-1]
    per_image = last.timeline / last.num_images
    constant = np.zeros(len(per_image))
    if len(passes) > 1 and len(passes[0].timeline) == len(last.timeline):
        per_image = (last.timeline - passes[0].timeline) / (last.num_images - passes[0].num_images)
        constant = last.timeline - per_image * last.num_images
    unseen = max(found.unseen / found.num_images for found in passes)
    return StepMemory(
        constant=constant, per_image=per_image, gradients=last.gradients, headroom=headroom, unseen=unseen
    )


_PASSES: dict[tuple[str, int], Pass] = {}
"""By key and number of images; the trials of a worker differ in nothing that matters here."""


class Prober:
    """Runs small passes, and leaves neither gradients nor moved buffers behind.

    Args:
        backward: forward and backward pass of some views, as a step does it.
        networks: whose parameters and buffers take part.
        crops: how many views of which size.
        device: of the networks.
        key: names everything that the passes depend on; a pass that this process has made under it is not made again.
    """

    def __init__(
        self,
        backward: Callable[[Views], object],
        networks: Sequence[nn.Module],
        crops: CropsConfig,
        device: torch.device,
        key: str,
    ) -> None:
        self.backward = backward
        self.key = key
        self.parameters = [tensor for network in networks for tensor in network.parameters()]
        self.buffers = [tensor for network in networks for tensor in network.buffers()]
        self.crops = crops
        self.device = device

    def measure(self, num_passes: int) -> StepMemory:
        """What `num_passes` passes, one or two, say; see `from_passes`."""
        sizes = PROBE_SIZES[:num_passes]
        for size in sizes:
            if (self.key, size) not in _PASSES:
                _PASSES[self.key, size] = self._pass(size)
        return from_passes([_PASSES[self.key, size] for size in sizes], HEADROOM[self.device.type])

    def _pass(self, size: int) -> Pass:
        views = self._views(size)
        before = self._allocated(reset=True)
        try:
            with restored(self.buffers), LiveBytes([*self.parameters, *self.buffers]) as live:
                self.backward(views)
            gradients = sum(p.grad.nbytes for p in self.parameters if p.grad is not None)
        finally:
            for parameter in self.parameters:
                parameter.grad = None
        unseen = 0 if self.device.type == "cpu" else self._allocated() - before - max(live.timeline)
        return Pass(num_images=size, timeline=np.array(live.timeline), gradients=gradients, unseen=max(0, unseen))

    def views_bytes(self, num_images: int) -> tuple[int, int]:
        """Bytes of a micro-batch's views, and of what lives beside them only while they are made."""
        crops = self.crops
        sizes = [4 * 3 * crops.n_global * crops.global_size**2, 4 * 3 * crops.n_local * crops.local_size**2]
        chunk = _VIEW_CHUNK_BYTES.get(self.device.type, _VIEW_CHUNK_BYTES["cuda"])
        return sum(sizes) * num_images, _VIEW_COPIES * min(chunk, max(sizes) * num_images)

    def _views(self, num_images: int) -> Views:
        """Noise: what is in the views does not matter to memory."""
        generator = torch.Generator().manual_seed(0)
        crops = self.crops

        def noise(num_views: int, size: int) -> Tensor:
            return torch.randn(num_views * num_images, 3, size, size, generator=generator).to(self.device)

        return Views(
            global_crops=noise(crops.n_global, crops.global_size), local_crops=noise(crops.n_local, crops.local_size)
        )

    def _allocated(self, reset: bool = False) -> int:
        """On a GPU: bytes given out now, or at most since the last reset."""
        if self.device.type == "cpu":
            return 0
        if not reset:
            return int(torch.cuda.max_memory_allocated(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)
        return int(torch.cuda.memory_allocated(self.device))


@contextmanager
def restored(buffers: list[Tensor]) -> Iterator[None]:
    """Puts buffers (batch norm's running statistics) back to what they were."""
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        put_back(buffers, before)


@torch.no_grad()
def put_back(buffers: list[Tensor], before: list[Tensor]) -> None:
    """Copies one list of tensors into another, in place."""
    if buffers:
        torch._foreach_copy_(buffers, before)
