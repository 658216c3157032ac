"""Random numbers as a pure function of names and counters, so that no generator has to be saved or shared.

`derive_seed` gives every purpose its own seed; `counter_uniforms` gives every image of every epoch its own numbers. A
number depends only on its purpose, so results do not change with batch size, number of workers, device, or an
interruption: a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def derive_seed(root: int, *names: str | int) -> int:
    """A 63-bit seed for one named purpose, e.g. `derive_seed(0, "views", trial_seed)`.

    Args:
        root: any integer.
        names: purpose of the seed; another name or order gives an unrelated seed.
    Returns:
        An integer in [0, 2**63), the first 8 bytes of BLAKE2b over the root and the names.
    """
    text = "\x1f".join([str(int(root)), *(f"{type(name).__name__}:{name}" for name in names)])
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), element-wise."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def counter_uniforms(seed: int, counters: npt.ArrayLike, num_slots: int) -> npt.NDArray[np.float64]:
    """Uniform numbers that depend only on (seed, counter, slot).

    A counter-based generator built on SplitMix64's mixer: row i is the same whatever the other rows are.

    Args:
        seed: integer, e.g. from `derive_seed`.
        counters: integers, shape (N,), identity of each row (an image, a sample of the epoch, ...).
        num_slots: numbers per row, at least 0.
    Returns:
        float64, shape (N, num_slots), each in [0, 1).
    """
    rows = np.asarray(counters, dtype=np.int64).astype(np.uint64)
    slots = np.arange(1, num_slots + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        key = _mix(np.asarray([seed & (2**64 - 1)], dtype=np.uint64) + _GOLDEN)
        row_keys = _mix(_mix(rows * _GOLDEN + key) ^ key)
        bits = _mix(row_keys[:, None] + slots[None, :] * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
