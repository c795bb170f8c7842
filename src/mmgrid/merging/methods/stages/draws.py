"""Random stages: dropping at random (DARE, random masks) and dropping by magnitude (DELLA)."""

import functools
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import Floats, magnitudes
from mmgrid.merging.methods.stages.base import RunThreshold, Stage, Unit
from mmgrid.merging.methods.stages.place import Place
from mmgrid.merging.methods.stages.random import happens, words


class Drop(Stage):
    """Set each element to zero with probability `drop`, and divide the others by 1 − drop.

    Paper: Yu et al., "Language models are super Mario: absorbing abilities from homologous models as a free lunch",
    ICML 2024, https://arxiv.org/abs/2311.03099.
    """

    random: ClassVar[bool] = True
    drop: float = Field(default=0.1, ge=0, lt=1, description="probability that an element is dropped")
    rescale: bool = Field(default=True, description="divide kept elements by 1 − drop")

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        if self.drop:
            dropped = happens(place, len(values), self.drop)
            np.multiply(values, np.logical_not(dropped, out=dropped), out=values)
            if self.rescale:
                values /= np.float32(1 - self.drop)
        return values


class MagnitudeDrop(Stage):
    """Drop each element with a probability that falls with the rank of its magnitude within its row (MagPrune).

    The elements of a row are kept with probabilities from density − epsilon / 2 (the smallest) to density + epsilon / 2
    (the largest), in equal steps by rank; a row of one element is kept with probability density. Kept elements are
    divided by their probability.

    Paper: Deep et al., "DELLA-Merging: reducing interference in model merging through magnitude-based sampling", 2024,
    https://arxiv.org/abs/2406.11617, section 3.1.
    """

    unit: ClassVar[Unit] = "row"
    random: ClassVar[bool] = True
    density: float = Field(default=0.7, gt=0, le=1, description="mean probability that an element is kept")
    epsilon: float = Field(
        default=0.2, ge=0, lt=1, description="difference between the largest and the smallest probability"
    )
    rescale: bool = Field(default=True, description="divide kept elements by their probability")

    @model_validator(mode="after")
    def _probabilities(self) -> Self:
        if self.density == 1 and self.epsilon == 0:  # everything is kept
            return self
        if not (self.density - self.epsilon / 2 > 0 and self.density + self.epsilon / 2 < 1):
            raise ValueError(f"density {self.density} ± epsilon {self.epsilon} / 2 must lie between 0 and 1")
        return self

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        if not len(values) or self.density == 1:
            return values
        n = place.row
        keep_below = take(len(values), np.uint32)
        keep_below[_ascending(magnitudes(values), n)] = np.tile(self.keep_below(n), len(values) // n)
        kept = np.less(words(place, len(values)), keep_below, out=take(len(values), np.bool_))
        np.multiply(values, kept, out=values)
        if self.rescale:
            values /= self.divisors(keep_below)
        return values

    def keep_below(self, row: int) -> NDArray[np.uint32]:
        """For each rank in a row, from the smallest: the 32-bit number below which a random one keeps the element."""
        return _keep_below(self.density, self.epsilon, row)

    def divisors(self, keep_below: NDArray[np.uint32]) -> Floats:
        """The probabilities that kept elements are divided by."""
        return np.multiply(keep_below, np.float32(2**-32), out=take(len(keep_below)), casting="unsafe")


@functools.lru_cache(maxsize=64)
def _keep_below(density: float, epsilon: float, row: int) -> NDArray[np.uint32]:
    low, step = density - epsilon / 2, epsilon / max(row - 1, 1)
    kept_of = [low + rank * step for rank in range(row)] if row > 1 else [density]
    return np.array([min(max(round(p * 2**32), 1), 2**32 - 1) for p in kept_of], np.uint32)


def _ascending(bits: NDArray[np.uint32], row: int) -> NDArray[np.int64]:
    """Indices sorted by magnitude within each row, the lower index first among equal magnitudes.

    Sorts pairs of magnitude and column as integers, which takes a fifth of the time of a stable argsort.
    """
    pairs = take(len(bits), np.uint64).reshape(-1, row)
    np.copyto(pairs, bits.reshape(-1, row))
    pairs <<= np.uint64(32)
    pairs |= np.arange(row, dtype=np.uint64)
    pairs.sort(axis=1)
    pairs &= np.uint64(0xFFFFFFFF)
    pairs += np.arange(0, len(bits), row, dtype=np.uint64)[:, None]
    return pairs.reshape(-1).view(np.int64)
