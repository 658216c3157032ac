"""Random numbers for one named purpose, the same on every machine and with every numpy release.

numpy promises no stable stream for its `Generator`, so everything here comes from `seeding.counter_uniforms`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from augscale.seeding import counter_uniforms, derive_seed

Floats = npt.NDArray[np.float64]

_BUFFERED = 64
"""Up to this count, numbers come from a buffered row: a call of the generator costs as much as 500 numbers."""


class Draws:
    """A stream of random numbers that depends on the seed and the names only.

    Each purpose (the pose of a photograph, the vessels of an eye) has its own stream, so that drawing one more number
    for one purpose does not change another.

    Args:
        seed: root seed of the collection.
        names: purpose of the numbers, e.g. `("patient", 12, "left", "vessels")`.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self._key = derive_seed(seed, "synthetic", *names)
        self._row = 0
        self._buffer: list[float] = []

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """`count` uniform numbers in [low, high)."""
        if count <= _BUFFERED:
            return low + (high - low) * np.array(self._take(count), dtype=np.float64)
        row = counter_uniforms(self._key, [self._row], count)[0]
        self._row += 1
        return low + (high - low) * row

    def skip(self) -> None:
        """Skips the numbers of one call of `uniforms` with a large count."""
        self._row += 1

    def normals(self, count: int, mean: float = 0.0, sd: float = 1.0) -> Floats:
        """`count` normal numbers, by inversion; never further than 8 standard deviations from the mean."""
        return mean + sd * ndtri(np.maximum(self.uniforms(count), 1e-15))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One uniform number in [low, high)."""
        return low + (high - low) * self._take(1)[0]

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> float:
        """One normal number, cut at three standard deviations so that no trait becomes absurd."""
        return mean + sd * min(max(float(ndtri(max(self.uniform(), 1e-15))), -3.0), 3.0)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """One whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, weights: tuple[float, ...]) -> int:
        """An index drawn in proportion to the weights."""
        edge = self.uniform() * sum(weights)
        for index, weight in enumerate(weights):
            edge -= weight
            if edge < 0:
                return index
        return len(weights) - 1

    def _take(self, count: int) -> list[float]:
        while len(self._buffer) < count:
            self._buffer += counter_uniforms(self._key, [self._row], 4 * _BUFFERED)[0].tolist()
            self._row += 1
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken
