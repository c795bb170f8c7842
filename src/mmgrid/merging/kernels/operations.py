"""Stages as operations of the compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgrid.merging.kernels.layout import ALL, DIVIDE, DROP, MULTIPLY, WINDOW
from mmgrid.merging.methods.stages import Cut, Drop, LayerScale, Outliers, Place, Stage, Trim
from mmgrid.merging.methods.stages.random import HALVES, REST, key_of, limits

KNOWN: frozenset[type[Stage]] = frozenset({Drop, LayerScale, Outliers, Trim})
_NO_CUT = Cut(1 << 31, None)  # magnitudes have 31 bits: nothing lies above it
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Operation:
    """One step of a stage; what the numbers and the factor are, `layout` says.

    Attributes:
        cuts: of a window: how many ranks of the stage's cuts it wants, 1 or 2; else 0.
    """

    kind: int
    numbers: tuple[int, ...] = (0,) * 6
    factor: float = 0.0
    cuts: int = 0


def operations_of(stage: Stage, place: Place) -> tuple[Operation, ...] | None:
    """A stage's operations on a tensor that `place` lies in; None if the loops do not know it."""
    if type(stage) is Drop:
        if not stage.drop:
            return ()
        keys = [key_of(place, purpose) for purpose in (HALVES, REST)]
        first, rest = limits(stage.drop)
        numbers = (keys[0] & _WORD, keys[0] >> 64, first, keys[1] & _WORD, keys[1] >> 64, rest)
        return (Operation(DROP, numbers), *_divided(1 - stage.drop, stage.rescale))
    if type(stage) is Trim:
        return (Operation(WINDOW, cuts=1), *_divided(stage.density, stage.rescale and bool(stage.density)))
    if type(stage) is Outliers:
        return (Operation(WINDOW, cuts=2),)
    if type(stage) is LayerScale:
        return (Operation(MULTIPLY, factor=stage.first + (stage.last - stage.first) * place.depth),)
    return None


def window_of(cuts: Sequence[Cut]) -> tuple[tuple[int, int], tuple[int, int]]:
    """For cuts in the order of the stage's ranks, those of what is kept: their bits, and how many equals are above."""
    lowest, highest = cuts[-1], cuts[0] if len(cuts) > 1 else _NO_CUT
    return (lowest.bits, highest.bits), (_equals(lowest), _equals(highest))


def _divided(by: float, wanted: bool) -> tuple[Operation, ...]:
    return (Operation(DIVIDE, factor=float(np.float32(by))),) if wanted else ()


def _equals(cut: Cut) -> int:
    return ALL if cut.equal is None else cut.equal
