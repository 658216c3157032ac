"""Gradient accumulation: the number of micro-batches into which a process divides its part of every batch.

The number is as small as memory allows. On a CPU it is the smallest whose estimated peak fits (`memory_estimate`),
because Linux kills a process that runs out of memory. On a GPU, and on a CPU whose allocator reports the shortage, a
step that runs out of memory is repeated with at least twice as many (`MicroBatches.halved`). The larger number holds
for the rest of the run and is saved with its state; every change is recorded with its cause. The batch itself never
changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from augscale.errors import ConfigError, MemoryShortageError
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.out_of_memory import is_out_of_memory
from augscale.system.memory import size_text

_REMEDY = "expected more memory, or a smaller crops.global_size, crops.n_local, pretrain.out_dim or backbone"
_UNLIMITED = 2**62


@dataclass(frozen=True, kw_only=True)
class MicroBatchChange:
    """One increase of the number of micro-batches, with its cause."""

    step: int
    """First step with the new number, counted from 1."""
    before: int
    """Micro-batches per process and step."""
    after: int
    cause: str
    """"estimate" or "earlier run", before the session's first step; "out of memory", in a step that is repeated."""
    message: str
    """The estimate, or the allocator's error."""


@dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """Division of a process's part of every batch: `number` equal micro-batches, one after the other."""

    images: int
    """Images of every batch on one process."""
    number: int
    """Micro-batches per step."""
    batch_norm: bool
    """True if the networks have batch norm, which averages over one micro-batch."""
    largest: int | None = None
    """Most images per micro-batch that fit into memory; None until an estimate or a shortage has limited them."""
    changes: tuple[MicroBatchChange, ...] = ()
    """All changes of the run, in order."""

    @classmethod
    def of_batch(cls, batch_size: int, num_processes: int, accumulate: int, *, batch_norm: bool) -> MicroBatches:
        """Divides a batch over processes and `accumulate` micro-batches.

        Raises:
            ConfigError: they would not be equal.
        """
        num_shards = num_processes * accumulate
        if accumulate < 1 or batch_size % num_shards:
            raise ConfigError(
                f"pretrain.batch_size = {batch_size} over {num_processes} processes x {accumulate} micro-batches: "
                f"expected a multiple of {max(num_shards, num_processes)}, so that all parts are equal, and at least "
                "1 micro-batch"
            )
        return cls(images=batch_size // num_processes, number=accumulate, batch_norm=batch_norm)

    @property
    def size(self) -> int:
        """Images of each micro-batch."""
        return self.images // self.number

    @property
    def smallest(self) -> int:
        """Fewest images of a micro-batch: batch norm cannot work on a single one."""
        return 2 if self.batch_norm else 1

    @property
    def note(self) -> str | None:
        """Warning about comparisons with other runs; None if they are comparable."""
        if not self.batch_norm or not self.changes:
            return None
        return (
            f"batch norm saw micro-batches of {self.size} images, chosen to fit the memory; not strictly comparable "
            "with runs of other micro-batches"
        )

    def __str__(self) -> str:
        return f"micro-batches {self.number} x {self.size}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "number": self.number,
            "size": self.size,
            "batch_norm": self.batch_norm,
            "changes": [asdict(change) for change in self.changes],
            "note": self.note,
        }

    def numbers(self) -> list[int]:
        """Possible numbers of micro-batches, rising from the present one."""
        more = range(self.number + 1, self.images // self.smallest + 1)
        return [self.number, *(number for number in more if self.images % number == 0)]

    def next_number(self) -> int | None:
        """At least twice the present number; None if the micro-batches are as small as they may be."""
        return next((number for number in self.numbers() if number >= 2 * self.number), None)

    def halved(self, step: int, message: str) -> MicroBatches:
        """At least twice as many micro-batches, after `step` ran out of memory.

        Raises:
            MemoryShortageError: they cannot be smaller.
        """
        number = self.next_number()
        if number is None:
            images = "1 image" if self.size == 1 else f"{self.size} images"
            norm = ", the fewest with batch norm" if self.batch_norm else ""
            raise MemoryShortageError(
                f"out of memory at step {step} with micro-batches of {images}{norm}; {_REMEDY} ({message})"
            )
        return self.changed(number, step=step, cause="out of memory", message=message)

    def no_larger_than(self, largest: int | None, step: int) -> MicroBatches:
        """Micro-batches no larger than those that an earlier run on the same device ended with.

        Args:
            largest: images per micro-batch of that run; None: unknown.
            step: the first of this session, counted from 1.
        """
        if largest is None or self.size <= largest:
            return self
        message = f"an earlier run on this device ended with micro-batches of {largest} images"
        return self.changed(self._number_for(largest), step=step, cause="earlier run", message=message)

    def changed(self, number: int, *, step: int, cause: str, message: str) -> MicroBatches:
        """A copy with the number that memory requires; see `MicroBatchChange`."""
        changes = self.changes
        if number != self.number:
            changes += (MicroBatchChange(step=step, before=self.number, after=number, cause=cause, message=message),)
        return replace(self, number=number, largest=self.images // number, changes=changes)

    def saved(self) -> dict[str, Any]:
        """Plain values for the saved state of a run."""
        return {"largest": self.largest, "changes": [vars(change) for change in self.changes]}

    def resumed(self, saved: dict[str, Any]) -> MicroBatches:
        """Micro-batches no larger than the saved ones if memory had limited those."""
        changes = tuple(MicroBatchChange(**change) for change in saved["changes"])
        largest = saved["largest"]
        number = self.number if largest is None else self._number_for(largest)
        return replace(self, number=number, largest=largest, changes=changes)

    def _number_for(self, largest: int) -> int:
        numbers = self.numbers()
        return next((number for number in numbers if self.images // number <= largest), numbers[-1])


def fewest_that_fit(
    micro_batches: MicroBatches,
    estimate: Callable[[], Callable[[int], int]],
    *,
    limit: int | None,
    max_memory: str | None,
    step: int,
    context: DistributedContext,
) -> MicroBatches:
    """The fewest micro-batches whose estimated peak is within the limit, the same number on every process.

    Args:
        estimate: measures a step, and returns the peak in bytes as a function of the number of micro-batches. All
            processes call it or none does, because batch norm may reduce over them.
        limit: bytes, see `system.memory.memory_limit`; None: unknown, and the number stays as it is.
        max_memory: the setting `pretrain.max_memory`; if set, exceeding it is an error.
        step: the first of this session, counted from 1.
    Raises:
        ConfigError: the smallest micro-batches need more than `max_memory`.
    """
    numbers = micro_batches.numbers()
    if not context.all_reduce_max(int(limit is not None)) or (len(numbers) == 1 and max_memory is None):
        return micro_batches
    limit = _UNLIMITED if limit is None else limit
    peak = None
    try:
        peak = estimate()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if context.all_reduce_max(int(peak is None)) or peak is None:
        return micro_batches  # no estimate: a step that runs out of memory will be repeated
    number = next((number for number in numbers if peak(number) <= limit), numbers[-1])
    fits = peak(number) <= limit
    if not context.all_reduce_max(int(number != micro_batches.number or not fits)):
        return micro_batches
    if not fits and max_memory is not None:
        raise ConfigError(
            f"pretrain.max_memory = {max_memory!r} (--max-memory): {number} micro-batches of "
            f"{micro_batches.images // number} are estimated to need {size_text(peak(number))}; {_REMEDY}"
        )
    estimates = ", ".join(
        f"{size_text(peak(n))} in {n} x {micro_batches.images // n}" for n in sorted({micro_batches.number, number})
    )
    where = "pretrain.max_memory" if max_memory is not None else "free memory"
    message = f"estimated {estimates}; {where} is {size_text(limit)}"
    return micro_batches.changed(context.all_reduce_max(number), step=step, cause="estimate", message=message)
