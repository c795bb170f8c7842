"""Translates stages to operations of the native loops."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmgrid.merging.kernels.layout import ALL, DIVIDE, DROP, MULTIPLY, ROWS, WINDOW
from mmgrid.merging.methods.stages import Drop, LayerScale, MagnitudeDrop, Outliers, Place, RunThreshold, Stage, Trim
from mmgrid.merging.methods.stages.random import HALVES, REST, WORDS, key_of, limits

KNOWN: frozenset[type[Stage]] = frozenset({Drop, LayerScale, MagnitudeDrop, Outliers, Trim})
_NO_THRESHOLD = RunThreshold(1 << 31, None)  # magnitudes have 31 bits, so nothing is above it
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Operation:
    """One step of a stage; `layout` defines the meaning of the numbers and the factor.

    Attributes:
        thresholds: number of the stage's thresholds that a window needs, 1 or 2; 0 for other operations.
        row: elements that must not be parted; 1 for operations on single elements.
        chances: uint32 [row], of `MagnitudeDrop.keep_below`, which `ROWS` needs; its address is the fourth of the numbers.
    """

    kind: int
    numbers: tuple[int, ...] = (0,) * 6
    factor: float = 0.0
    thresholds: int = 0
    row: int = 1
    chances: np.ndarray | None = field(default=None, compare=False)


def operations_of(stage: Stage, place: Place) -> tuple[Operation, ...] | None:
    """The operations of a stage on the tensor of `place`; None if the loops do not support the stage."""
    if type(stage) is Drop:
        if not stage.drop:
            return ()
        keys = [key_of(place, purpose) for purpose in (HALVES, REST)]
        first, rest = limits(stage.drop)
        numbers = (keys[0] & _WORD, keys[0] >> 64, first, keys[1] & _WORD, keys[1] >> 64, rest)
        return (Operation(DROP, numbers), *_divided(1 - stage.drop, stage.rescale))
    if type(stage) is Trim:
        return (Operation(WINDOW, thresholds=1), *_divided(stage.density, stage.rescale and bool(stage.density)))
    if type(stage) is Outliers:
        return (Operation(WINDOW, thresholds=2),)
    if type(stage) is MagnitudeDrop:
        return () if stage.density == 1 else (_by_rank(stage, place),)
    if type(stage) is LayerScale:
        return (Operation(MULTIPLY, factor=stage.first + (stage.last - stage.first) * place.depth),)
    return None


def window_of(thresholds: Sequence[RunThreshold]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The lower and the upper threshold of a window: their bits, and how many equal elements are above each.

    `thresholds` are in the order of the stage's ranks.
    """
    lowest, highest = thresholds[-1], thresholds[0] if len(thresholds) > 1 else _NO_THRESHOLD
    return (lowest.bits, highest.bits), (_equals(lowest), _equals(highest))


def _by_rank(stage: MagnitudeDrop, place: Place) -> Operation:
    key, chances = key_of(place, WORDS), stage.keep_below(place.row)
    numbers = (key & _WORD, key >> 64, place.row, chances.__array_interface__["data"][0], int(stage.rescale), 0)
    return Operation(ROWS, numbers, row=place.row, chances=chances)


def _divided(by: float, wanted: bool) -> tuple[Operation, ...]:
    return (Operation(DIVIDE, factor=float(np.float32(by))),) if wanted else ()


def _equals(threshold: RunThreshold) -> int:
    return ALL if threshold.equal is None else threshold.equal
