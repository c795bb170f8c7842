"""A difference of two tensors in 2, 3, 4 or 8 bits per weight: value = level of the code × scale of the row or group.

Levels are 2^b numbers per tensor, symmetric around zero; scales are bfloat16. Both are stored, so a reader needs no rule
by which they were chosen, and choosing better ones changes no format. They are chosen for the least squared error:

- the scale of each row or group from a grid of shares of its largest magnitude, then by least squares for the codes
  found (s = ⟨x, l⟩ / ⟨l, l⟩), if this is better still;
- the levels of each tensor from a few sets, on a sample of its rows: steps with or without a zero, and for up to four
  bits the levels that are best for normal numbers (Lloyd 1982, Max 1960).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import frame, like
from mmgrid.merging.arrays.floats import Floats, narrow, widen
from mmgrid.merging.parts.packing import Bytes

BITS = (2, 3, 4, 8)
SCALES = "bfloat16"
_SHARES = tuple(0.85**step for step in range(8))  # of the largest magnitude, at the outermost level: 1 to 0.32
_FITS = 2
_LEAST_SCALE = np.float32(1e-37)  # the inverse of a smaller one would overflow
_SAMPLE = 1 << 16  # elements on which a set of levels is chosen
_BINS = 1024  # per unit of a scaled value, where levels are not evenly spaced


@dataclass(frozen=True)
class Grid:
    """How a tensor is divided: rows (of the last axis) and, in each, groups of `group` elements that share a scale.

    The last group of a row may be shorter.
    """

    rows: int
    columns: int
    group: int

    @classmethod
    def of(cls, shape: Sequence[int], group: int | None) -> "Grid":
        """group: elements that share a scale; None for whole rows."""
        columns = shape[-1] if shape else 1
        return cls(math.prod(shape[:-1]), columns, min(group or columns, columns) or 1)

    @property
    def groups_per_row(self) -> int:
        return -(-self.columns // self.group)

    @property
    def scales(self) -> int:
        """Number of scales."""
        return self.rows * self.groups_per_row

    def groups_of(self, start: int, stop: int) -> tuple[int, int]:
        """The groups [first, last) that elements [start, stop) belong to."""
        return self._group(start), self._group(stop - 1) + 1

    def lengths(self, start: int, stop: int) -> NDArray[np.int64]:
        """How many of the elements [start, stop) each of their groups holds."""
        first, last = self.groups_of(start, stop)
        group = np.arange(first, last + 1)
        row, inner = np.divmod(group, self.groups_per_row)
        return np.diff(np.clip(row * self.columns + inner * self.group, start, stop))

    def _group(self, element: int) -> int:
        row, column = divmod(element, self.columns)
        return row * self.groups_per_row + column // self.group


def times_scales(values: Floats, scales: Floats, grid: Grid, start: int) -> Floats:
    """Multiply the values of elements from `start` on, in place, each by the scale of its group.

    scales: float32, of the groups that the elements belong to.
    """
    stop = start + len(values)
    even = grid.columns % grid.group == 0
    if even and start % grid.group == 0 and len(values) % grid.group == 0:
        values.reshape(-1, grid.group)[:] *= scales[:, None]
    else:
        values *= np.repeat(scales, grid.lengths(start, stop))
    return values


@dataclass(frozen=True, eq=False)
class Levels:
    """The value of each code before it is scaled: float32 [2^bits], ascending, the outermost at ±1."""

    values: Floats

    @property
    def bits(self) -> int:
        return len(self.values).bit_length() - 1

    def nearest(self, scaled: Floats) -> Floats:
        """The level that is nearest to each value, in place."""
        if not self._step:
            return np.take(self._level_of_bin, self._bins(scaled), out=scaled, mode="clip")
        self._places(scaled)
        scaled *= self._step
        scaled += self.values[0]
        return scaled

    def codes_of(self, scaled: Floats) -> Bytes:
        """The code of that level; `scaled` is used up."""
        if not self._step:
            return np.take(self._code_of_bin, self._bins(scaled), mode="clip")
        return self._places(scaled).astype(np.uint8)

    def _places(self, scaled: Floats) -> Floats:
        scaled -= self.values[0]
        scaled *= np.float32(1) / self._step
        np.clip(scaled, 0, self._last, out=scaled)
        return np.rint(scaled, out=scaled)

    def _bins(self, scaled: Floats) -> NDArray[np.uint16]:
        scaled += np.float32(1)
        scaled *= np.float32(_BINS)
        np.clip(scaled, 0, 2 * _BINS, out=scaled)
        return scaled.astype(np.uint16)

    @cached_property
    def _step(self) -> np.float32:
        """The distance of two levels; 0 if they are not evenly spaced."""
        steps = np.diff(self.values[: self._last + 1])
        return steps[0] if np.ptp(steps) <= 1e-6 else np.float32(0)

    @cached_property
    def _last(self) -> int:
        """The highest code in use; with an odd number of levels the last code repeats it."""
        return len(self.values) - 1 - int(self.values[-1] == self.values[-2])

    @cached_property
    def _code_of_bin(self) -> Bytes:
        """The code of the level that is nearest to the middle of each bin of [-1, 1]."""
        middle = (np.arange(2 * _BINS + 1) + 0.5 - _BINS) / _BINS
        thresholds = (self.values[1:].astype(np.float64) + self.values[:-1]) / 2
        return np.searchsorted(thresholds, middle).astype(np.uint8)

    @cached_property
    def _level_of_bin(self) -> Floats:
        return self.values[self._code_of_bin]


def level_sets(bits: int) -> tuple[Levels, ...]:
    """The sets of levels that a tensor may have."""
    count = 2**bits
    without_zero = np.linspace(-1, 1, count)
    with_zero = np.linspace(-1, 1, count - 1)
    sets = [without_zero, np.append(with_zero, with_zero[-1])]
    if bits <= 4:
        sets.append(_normal_levels(bits))
    return tuple(Levels(values.astype(np.float32)) for values in sets)


@cache
def _normal_levels(bits: int) -> np.ndarray:
    """The levels with the least squared error for normal numbers, by Lloyd's iteration, scaled to ±1 at the ends."""
    levels = np.linspace(-2, 2, 2**bits)
    erf = np.vectorize(math.erf)
    for _ in range(3000):
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        density, below = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi), (1 + erf(edges / math.sqrt(2))) / 2
        levels = -np.diff(density) / np.diff(below)
    levels = (levels - levels[::-1]) / 2
    return levels / levels[-1]


def best_levels(sample: Floats, bits: int) -> Levels:
    """The set of levels with the least squared error on some groups of a tensor: float32 [groups, group]."""
    sets = level_sets(bits)
    return sets[int(np.argmin([float(best_scales(sample, levels)[1].sum()) for levels in sets]))]


def sampled_rows(rows: int, columns: int) -> NDArray[np.int64]:
    """The rows on which levels are chosen: at equal distances."""
    count = min(rows, max(_SAMPLE // max(columns, 1), 1))
    return np.unique(np.linspace(0, rows - 1, count).astype(np.int64)) if rows else np.zeros(0, np.int64)


def encoded(groups: Floats, levels: Levels) -> tuple[Bytes, NDArray[np.uint16]]:
    """The codes uint8 [groups, group] and scales bfloat16 [groups] of groups.

    groups: float32 [groups, group], finite; filled up with zeros where a group is shorter.
    """
    scales, _ = best_scales(groups, levels)
    return levels.codes_of(_scaled(groups, widen(scales, SCALES))), scales


def best_scales(groups: Floats, levels: Levels) -> tuple[NDArray[np.uint16], Floats]:
    """The scale of each group with the least squared error, as bfloat16 [groups], and this error, float32 [groups]."""
    largest = np.abs(groups).max(axis=1, initial=0)
    best = _stored(np.zeros_like(largest))
    errors = np.einsum("ij,ij->i", groups, groups)
    for share in _SHARES:
        _improve(groups, levels, largest * np.float32(share), best, errors)
    for _ in range(_FITS):
        chosen = levels.nearest(_scaled(groups, widen(best, SCALES)))
        over, under = np.einsum("ij,ij->i", groups, chosen), np.einsum("ij,ij->i", chosen, chosen)
        fitted = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
        _improve(groups, levels, np.maximum(fitted, 0), best, errors)
    return best, errors


def _stored(scales: Floats) -> NDArray[np.uint16]:
    """Scales as they are stored."""
    return narrow(np.ascontiguousarray(scales), SCALES)


def _scaled(groups: Floats, scales: Floats) -> Floats:
    """Groups divided by their scales, as a new array; zeros where a scale is zero."""
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > _LEAST_SCALE)
    return np.multiply(groups, inverse[:, None], out=like(groups))


def _improve(groups: Floats, levels: Levels, scales: Floats, best: NDArray[np.uint16], errors: Floats) -> None:
    """Replace the scales and errors of the groups for which these scales are better."""
    with frame():
        stored = _stored(scales)
        factor = widen(stored, SCALES)
        near = levels.nearest(_scaled(groups, factor))
        near *= factor[:, None]
        near -= groups
        error = np.einsum("ij,ij->i", near, near)
        better = (error < errors) & (factor > _LEAST_SCALE)
        best[better], errors[better] = stored[better], error[better]
