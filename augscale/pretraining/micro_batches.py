"""Into how many micro-batches a step is cut so that it fits into memory, and what happens where it did not.

Before the first step the fewest are taken whose estimated peak fits (`choose`). Where memory runs out all the
same, the step's gradients are dropped, and the same step is done again with at least twice as many (`until_it_fits`);
so it stays for the rest of the run. Either is recorded. More micro-batches never change the effective batch.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from augscale.errors import ConfigError, MemoryShortageError
from augscale.pretraining.events import MicroBatchChange, MicroBatches
from augscale.pretraining.memory_estimate import Prober, StepMemory
from augscale.pretraining.team import Team
from augscale.system.memory import available_memory, parse_size, processes_here, resident_memory, size_text

T = TypeVar("T")

_SHARE_OF_AVAILABLE = 0.9
"""Of what is free when nobody has set a limit; the rest is for the scoring of rungs and for others."""
_MESSAGES = ("DefaultCPUAllocator: can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
"""In errors that are no torch.OutOfMemoryError: of the CPU's allocator, the CUDA driver, cuBLAS and cuDNN."""
_REMEDY = "expected more memory, or a smaller crops.global_size, crops.n_local, pretrain.out_dim or backbone"


class MicroBatching:
    """The micro-batches of one process now, and how it came to them.

    Args:
        share: images of a batch that this process works on.
        requested: micro-batches at least; divides the share.
        smallest: images that a micro-batch must have, 2 where batch norm would see a single one.
        batch_norm: whether the number of micro-batches decides what batch norm averages over.
    """

    def __init__(self, share: int, requested: int, *, smallest: int, batch_norm: bool) -> None:
        self.share = share
        self.number = requested
        self.smallest = smallest
        self.batch_norm = batch_norm
        self.largest: int | None = None
        """Images per micro-batch that memory allows, as far as it has said so."""
        self.changes: list[MicroBatchChange] = []

    @property
    def size(self) -> int:
        return self.share // self.number

    def numbers(self) -> list[int]:
        """What may be taken from here on, rising, the present number first."""
        more = range(self.number + 1, self.share // self.smallest + 1)
        return [self.number, *(number for number in more if self.share % number == 0)]

    def next_number(self) -> int | None:
        """At least twice as many, None where the micro-batches are as small as they may be."""
        return next((number for number in self.numbers() if number >= 2 * self.number), None)

    def change(self, number: int, *, step: int, cause: str, message: str) -> None:
        """Takes another number, for the rest of the run, and records why.

        Args:
            step: the first that is worked on in these, counted from 1.
            cause: "estimate", "out of memory" or "earlier run".
            message: what was found.
        """
        if number != self.number:
            self.changes.append(
                MicroBatchChange(step=step, before=self.number, after=number, cause=cause, message=message)
            )
            self.number = number
        self.largest = self.size

    def halve(self, step: int, message: str) -> None:
        """After memory ran out: at least twice as many micro-batches.

        Raises:
            MemoryShortageError: they cannot be made smaller.
        """
        more = self.next_number()
        if more is None:
            images = "1 image" if self.size == 1 else f"{self.size} images"
            norm = ", the fewest with batch norm" if self.smallest > 1 else ""
            raise MemoryShortageError(
                f"out of memory at step {step} with micro-batches of {images}{norm}; {_REMEDY} ({message})"
            )
        self.change(more, step=step, cause="out of memory", message=message)

    def resume(self, saved: dict[str, Any]) -> None:
        """Goes on with micro-batches no larger than those a run ended with, where memory had decided them."""
        self.changes = [MicroBatchChange(**change) for change in saved["changes"]]
        self.largest = saved["largest"]
        if self.largest is not None:
            self.number = self._fewest(self.largest)

    def follow(self, largest: int | None, step: int) -> None:
        """Begins as an earlier run on the same device ended, so that it need not run out of memory again.

        Args:
            largest: images per micro-batch that the other run ended with; None: nothing is known.
        """
        if largest is not None and self.size > largest:
            message = f"an earlier run on this device ended with micro-batches of {largest} images"
            self.change(self._fewest(largest), step=step, cause="earlier run", message=message)

    def _fewest(self, largest: int) -> int:
        numbers = self.numbers()
        return next((number for number in numbers if self.share // number <= largest), numbers[-1])

    def to_meta(self) -> dict[str, Any]:
        """For the saved state."""
        return {"largest": self.largest, "changes": [vars(change) for change in self.changes]}

    def told(self) -> MicroBatches:
        """For the caller."""
        return MicroBatches(number=self.number, size=self.size, batch_norm=self.batch_norm, changes=tuple(self.changes))


def choose(
    batching: MicroBatching,
    prober: Prober,
    team: Team,
    *,
    limit: int | None,
    in_use: int,
    moments: int,
    step: int,
    max_memory: str | None,
    num_threads: int = 1,
) -> None:
    """Takes the fewest micro-batches whose estimated peak fits, on every process of the team the same.

    Args:
        prober: measures a step.
        limit: bytes, see `memory_limit`; None: whatever was requested.
        in_use: bytes, see `memory_in_use`.
        moments: bytes that the optimiser has yet to take.
        num_threads: that work on a micro-batch together, each with gradients of its own, see `cores`.
        step: the first that is worked on in them, counted from 1.
        max_memory: what was asked for; then it has to be kept.
    Raises:
        ConfigError: the smallest micro-batches need more than was asked for.
    """
    numbers = batching.numbers()
    if not team.agree(int(limit is not None)) or (len(numbers) == 1 and max_memory is None):
        return
    room = 2**62 if limit is None else limit
    memory: StepMemory | None = None

    def needed(number: int) -> int:
        assert memory is not None, "no pass was made"
        size = batching.share // number
        views, making = prober.views_bytes(size)
        making += memory.gradients if number > 1 else 0
        parts = math.gcd(num_threads, size)
        own_gradients = parts * memory.gradients if parts > 1 else 0
        return in_use + moments + views + max(making, memory.peak(size, further=number > 1) + own_gradients)

    # All processes make the same passes, because batch norm may meet the others in them. The first gives an upper
    # bound; mostly that fits, and the second is not made.
    for num_passes in (1, 2):
        memory = _measured(prober, num_passes)
        if team.agree(int(memory is None)):
            return
        number = next((number for number in numbers if needed(number) <= room), numbers[-1])
        if not team.agree(int(number != batching.number or needed(number) > room)):
            return
    if needed(number) > room and max_memory is not None:
        raise ConfigError(
            f"pretrain.max_memory = {max_memory!r} (--max-memory): {number} micro-batches of "
            f"{batching.share // number} are estimated to need {size_text(needed(number))}; {_REMEDY}"
        )
    tried = sorted({batching.number, number})
    estimates = ", ".join(f"{size_text(needed(n))} in {n} x {batching.share // n}" for n in tried)
    where = "pretrain.max_memory" if max_memory is not None else "free memory"
    message = f"estimated {estimates}; {where} is {size_text(room)}"
    batching.change(team.agree(number), step=step, cause="estimate", message=message)


def _measured(prober: Prober, num_passes: int) -> StepMemory | None:
    """None where memory does not even suffice for that; then the steps themselves find out what does."""
    try:
        return prober.measure(num_passes)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def until_it_fits(attempt: Callable[[], T], retreat: Callable[[str], None]) -> T:
    """Calls `attempt` until it does not run out of memory, and `retreat` with the error's first line in between.

    What `retreat` raises ends it; other errors of `attempt` pass.
    """
    while True:
        try:
            return attempt()
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            message = first_line(error)
        # Not within the except clause: there the error's traceback keeps the tensors of the attempt alive.
        retreat(message)


@contextmanager
def update_in_place() -> Iterator[None]:
    """For the update itself, in which nothing should allocate and nothing can be done again.

    Raises:
        MemoryShortageError: memory ran out all the same.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortageError(
            "out of memory within an update, which cannot be done again; the state saved before it is intact; expected "
            f"more micro-batches (--accumulate) or a lower --max-memory ({first_line(error)})"
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU's or the host's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def drop_cached_memory(device: torch.device) -> None:
    """Gives back what nothing refers to any more: cycles that an error left, and the CUDA allocator's cache."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@torch.no_grad()
def allocate_moments(optimizer: torch.optim.AdamW) -> None:
    """Makes AdamW's state of every parameter that has a gradient and no state yet, as AdamW itself would.

    AdamW makes it within its step, one parameter group after the other, each updated before the next one's state is
    made: where memory runs out there, half a step is done, and a parameter can be left with half a state.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and not optimizer.state.get(parameter):
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }


def missing_moments(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of AdamW's moments that have not been made yet."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return sum(2 * parameter.nbytes for parameter in parameters if not optimizer.state.get(parameter))


def memory_limit(
    max_memory: str | None, device: torch.device, given: int | None = None, *, sharing: int = 1
) -> int | None:
    """Bytes that this process may hold: of main memory in all, or of a GPU besides CUDA's own.

    Args:
        max_memory: what was asked for, e.g. "8GB".
        given: what somebody has measured, taken where nothing was asked for.
        sharing: processes on this device, besides those of torchrun, among which what is free is divided.
    Returns:
        Else what this process holds and nine tenths of what is free, on a CPU divided also among the processes that
        torchrun has started on the host; None where that is unknown.
    """
    if max_memory is not None:
        return parse_size(max_memory)
    if given is not None:
        return given
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(_SHARE_OF_AVAILABLE * free / sharing) + int(torch.cuda.memory_reserved(device))
    free_on_host = available_memory()
    if free_on_host is None:
        return None
    return int(_SHARE_OF_AVAILABLE * free_on_host / (sharing * processes_here())) + resident_memory()


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process holds, as `memory_limit` counts them."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else resident_memory()


@contextmanager
def capped(device: torch.device, max_memory: str | None) -> Iterator[None]:
    """Makes a limit that was asked for a real one on a GPU: beyond it torch says that memory is used up.

    What CUDA itself takes (its context, some hundred MB) is not counted. On a CPU there is nothing of the kind that
    would not also end other threads and libraries.
    """
    if device.type != "cuda" or max_memory is None:
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, parse_size(max_memory) / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
