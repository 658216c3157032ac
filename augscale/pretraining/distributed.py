"""Distributed training: one process per device, started by `torchrun`.

Tensors on GPUs are reduced by nccl, those on CPUs by gloo. Agreements between steps (to stop, or that a process has
failed) always use gloo, so that they never wait for a GPU. In a single process every method returns at once and changes
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from augscale.errors import AugscaleError, ConfigError, Paused
from augscale.system.devices import resolve_device

TIMEOUT = timedelta(hours=2)
"""Longest wait for another process; before the first step it must cover the slowest machine's decoding of images."""
_CHUNK_BYTES = 2**28
_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class _Status(IntEnum):
    """State of one process between two steps; the largest value of any process holds for all."""

    RUNNING = 0
    STOPPING = 1
    FAILED = 2


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """Rank and device of this process; `DistributedContext()` is a single process. All methods are collective."""

    rank: int = 0
    """In [0, world_size). Only rank 0 writes files and calls back."""
    world_size: int = 1
    device: str | None = None
    """Device of this process, e.g. "cuda:3"; None leaves the choice to the caller."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        return self.world_size == 1

    def all_reduce_max(self, value: int) -> int:
        """The largest value over all processes."""
        if self.is_single:
            return value
        values = torch.tensor(value, dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return int(values)

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, on the device of `values`."""
        if self.is_single:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world_size

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the device of `values`; without gradients."""
        if self.is_single:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def all_reduce_largest(self, values: Tensor) -> Tensor:
        """The largest of every element over all processes, on the device of `values`; without gradients."""
        if self.is_single:
            return values
        largest = values.detach().clone()
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return largest

    def gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """The parts of all processes, of equal shapes, joined along `dim` in the order of ranks.

        Gradients flow into this process's own part only.
        """
        if self.is_single:
            return part
        own = part.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(parts, own)
        parts[self.rank] = part
        return torch.cat(parts, dim)

    def broadcast_bytes(self, content: bytes | None) -> bytes | None:
        """Returns rank 0's content on every process; the argument of the other ranks is ignored."""
        if self.is_single:
            return content
        size = torch.tensor(-1 if content is None else len(content), dtype=torch.int64)
        dist.broadcast(size, src=0)
        if size < 0:
            return None
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if self.is_main and content:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        for chunk in buffer.split(_CHUNK_BYTES):
            dist.broadcast(chunk, src=0)
        return buffer.numpy().tobytes()

    def broadcast_weights(self, network: nn.Module) -> None:
        """Copies rank 0's parameters and buffers to every process."""
        if not self.is_single:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.detach(), src=0)

    @contextmanager
    def announcing_failure(self) -> Iterator[None]:
        """Wraps work between steps that may fail on one process only, so that the others stop at `all_continue`.

        Without it they would wait in the middle of the next step until torchrun ends them.
        """
        try:
            yield
        except Paused:
            self.all_reduce_max(_Status.STOPPING)
            raise
        except BaseException:
            self.all_reduce_max(_Status.FAILED)
            raise

    def all_continue(self, *, stop: bool = False) -> bool:
        """True, on every process, if all processes continue.

        Args:
            stop: this process was asked to stop.
        Raises:
            AugscaleError: another process has failed.
        """
        status = self.all_reduce_max(_Status.STOPPING if stop else _Status.RUNNING)
        if status == _Status.FAILED:
            raise AugscaleError("another process of this run has failed; its own message says why")
        return status == _Status.RUNNING

    def check_equal(self, facts: dict[str, str]) -> None:
        """Compares named facts with those of rank 0.

        Raises:
            ConfigError: on every process, if any differs.
        """
        if self.is_single:
            return
        text = "\n".join(f"{name}={value}" for name, value in sorted(facts.items()))
        main_text = (self.broadcast_bytes(text.encode()) or b"").decode()
        other = [line.partition("=")[0] for line in text.splitlines() if line not in main_text.splitlines()]
        if self.all_reduce_max(int(bool(other))):
            what = ", ".join(other) or "settings or images (its own message says which)"
            who = f"process {self.rank} has" if other else "another process has"
            raise ConfigError(f"{who} other {what} than process 0; expected the same on every machine")

    def data_parallel(self, student: nn.Module) -> nn.Module:
        """The student wrapped so that its gradients become the mean over all processes during the backward pass."""
        if self.is_single:
            return student
        devices = [torch.device(self.device)] if self.device and self.device.startswith("cuda") else None
        # Batch norm is either synchronized or absent, so buffers need not be broadcast.
        return DistributedDataParallel(
            student, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def gradient_sync(student: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
    """Context of one micro-batch's backward pass; gradients are averaged over processes only if `enabled`.

    The last micro-batch of a step enables it, when the gradients are complete.
    """
    if enabled or not isinstance(student, DistributedDataParallel):
        return nullcontext()
    return student.no_sync()


@contextmanager
def init_distributed(device: str) -> Iterator[DistributedContext]:
    """Joins the process group that torchrun has started, if any, and leaves it at the end.

    Args:
        device: "auto", "cpu" or "cuda"; with several processes each takes the GPU of its local rank.
    Raises:
        ConfigError: no such device, more processes than GPUs, or one GPU named for several processes.
    """
    if not started_by_torchrun():
        yield DistributedContext(device=resolve_device(device))
        return
    own_device = _device_of_local_rank(device)
    backend = "gloo"
    if own_device != "cpu":
        torch.cuda.set_device(own_device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield DistributedContext(rank=dist.get_rank(), world_size=dist.get_world_size(), device=own_device)
    finally:
        dist.destroy_process_group()


def started_by_torchrun() -> bool:
    """True if this process is one of several that torchrun started."""
    return all(name in os.environ for name in _TORCHRUN_VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def global_rank() -> int:
    """Rank of this process, known before `init_distributed`; 0 for a single process."""
    return int(os.environ["RANK"]) if started_by_torchrun() else 0


def _device_of_local_rank(device: str) -> str:
    kind = resolve_device(device)
    if kind == "cpu":
        return kind
    if ":" in kind:
        raise ConfigError(f"--device {device}: every process of torchrun takes its own GPU; expected auto, cpu or cuda")
    local_rank, num_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= num_gpus:
        raise ConfigError(
            f"torchrun started {os.environ.get('LOCAL_WORLD_SIZE', local_rank + 1)} processes on a machine with "
            f"{num_gpus} GPUs; expected --nproc-per-node {num_gpus} or less"
        )
    return f"cuda:{local_rank}"
