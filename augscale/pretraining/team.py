"""The processes that train one network together, one per device: who is who, and what they tell each other.

Started by `torchrun`, which sets the environment variables that `join_team` reads. Tensors on GPUs travel by nccl,
those on CPUs by gloo; what the processes agree on from step to step travels by gloo, so that no GPU is waited for.
A process on its own is a team of one, for which everything here costs nothing and changes nothing.
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

from augscale.errors import AugscaleError, ConfigError
from augscale.pretraining.events import Paused
from augscale.system.devices import resolve_device

TIMEOUT = timedelta(hours=2)
"""How long one process waits for another: the first step waits for the slowest machine's cache of images."""
_PIECE_BYTES = 2**28
_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Status(IntEnum):
    """What a process says before every step; the gravest that any of them says holds for all."""

    GO = 0
    STOP = 1
    FAILED = 2


@dataclass(frozen=True, kw_only=True)
class Team:
    """A process's place among those that train together; `Team()` is one process alone."""

    rank: int = 0
    """Of this process, in [0, size). Rank 0 writes, and nobody else does."""
    size: int = 1
    device: str | None = None
    """Where this process works, e.g. "cuda:3"; None leaves the choice to the caller."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    def agree(self, value: int) -> int:
        """The largest value that any process says; all must call."""
        if self.alone:
            return value
        said = torch.tensor(value, dtype=torch.int64)
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return int(said)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """For work between steps that one process may fail in: the others hear of it before the next step.

        Without it they would wait for that process in the middle of the step, until torchrun ends them.
        """
        try:
            yield
        except Paused:
            self.agree(Status.STOP)
            raise
        except BaseException:
            self.agree(Status.FAILED)
            raise

    def agree_to_go_on(self, stop: bool) -> bool:
        """Whether all processes go on; they decide alike.

        Args:
            stop: whether this one was asked to stop.
        Raises:
            AugscaleError: another process has failed.
        """
        status = self.agree(Status.STOP if stop else Status.GO)
        if status == Status.FAILED:
            raise AugscaleError("another process of this run has failed; its own message says why")
        return status == Status.GO

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, on the device of the values; all must call."""
        if self.alone:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def share(self, content: bytes | None) -> bytes | None:
        """Rank 0's bytes, or its None; what the others give is not looked at."""
        if self.alone:
            return content
        size = torch.tensor(-1 if content is None else len(content), dtype=torch.int64)
        dist.broadcast(size, src=0)
        if size < 0:
            return None
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if self.leads and content:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        for piece in buffer.split(_PIECE_BYTES):
            dist.broadcast(piece, src=0)
        return buffer.numpy().tobytes()

    def check_same(self, facts: dict[str, str]) -> None:
        """Makes sure that all processes are about to do the same.

        Raises:
            ConfigError: on the processes for which it is not so, and on all others that somebody differs.
        """
        if self.alone:
            return
        text = "\n".join(f"{name}={value}" for name, value in sorted(facts.items()))
        first = (self.share(text.encode()) or b"").decode()
        other = [line.partition("=")[0] for line in text.splitlines() if line not in first.splitlines()]
        if self.agree(int(bool(other))):
            what = ", ".join(other) or "settings or images (its own message says which)"
            who = f"process {self.rank} has" if other else "another process has"
            raise ConfigError(f"{who} other {what} than process 0; expected the same on every machine")

    def wrap(self, student: nn.Module) -> nn.Module:
        """The student as it is to be called: its gradients become the mean over all processes during backward."""
        if self.alone:
            return student
        devices = [torch.device(self.device)] if self.device and self.device.startswith("cuda") else None
        # Batch norm's statistics are either synchronised or not there at all, so buffers need not be sent.
        return DistributedDataParallel(
            student, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def spread(self, network: nn.Module) -> None:
        """Gives every process rank 0's parameters and buffers."""
        if not self.alone:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.detach(), src=0)


def keep_gradients_here(wrapped: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """For a backward pass of some of a step's images: only the last one's gradients are worth sending."""
    if last or not isinstance(wrapped, DistributedDataParallel):
        return nullcontext()
    return wrapped.no_sync()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return all(name in os.environ for name in _TORCHRUN_VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def join_team(device: str) -> Iterator[Team]:
    """Meets the other processes that torchrun has started, if any, and leaves them at the end.

    Args:
        device: "auto", "cpu" or "cuda"; with several processes each takes the GPU of its local rank.
    Raises:
        ConfigError: no such device, more processes than GPUs, or one GPU named for several processes.
    """
    if not started_by_torchrun():
        yield Team(device=resolve_device(device))
        return
    mine = _device_of_local_rank(device)
    backend = "gloo"
    if mine != "cpu":
        torch.cuda.set_device(mine)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Team(rank=dist.get_rank(), size=dist.get_world_size(), device=mine)
    finally:
        dist.destroy_process_group()


def global_rank() -> int:
    """This process's number among all, known before they meet; 0 for a process on its own."""
    return int(os.environ["RANK"]) if started_by_torchrun() else 0


def local_rank() -> int:
    """This process's number on its machine, 0 for a process on its own."""
    return int(os.environ["LOCAL_RANK"]) if started_by_torchrun() else 0


def _device_of_local_rank(device: str) -> str:
    kind = resolve_device(device)
    if kind == "cpu":
        return kind
    if ":" in kind:
        raise ConfigError(f"--device {device}: every process of torchrun takes its own GPU; expected auto, cpu or cuda")
    local, found = local_rank(), torch.cuda.device_count()
    if local >= found:
        raise ConfigError(
            f"torchrun started {os.environ.get('LOCAL_WORLD_SIZE', local + 1)} processes on a machine with {found} "
            f"GPUs; expected --nproc-per-node {found} or less"
        )
    return f"cuda:{local}"
