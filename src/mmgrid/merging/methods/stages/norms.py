"""Stages that scale what they keep of a tensor to the norm that it had before, as mergekit does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.stages.base import RunThreshold, Unit
from mmgrid.merging.methods.stages.draws import Drop, MagnitudeDrop
from mmgrid.merging.methods.stages.place import Place
from mmgrid.merging.methods.stages.rank_window import Outliers, Trim

# How kept elements are rescaled: not, by the share that is kept, or to the tensor's L1 norm.
Rescale = bool | Literal["norm"]
_TINY = 1e-7  # norms below it are not scaled to
_Apply = Callable[[Floats, Place, Sequence[RunThreshold]], Floats]


def _to_norm(apply: _Apply, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
    before = float(np.abs(values).sum(dtype=np.float64))
    kept = apply(values, place, thresholds)
    after = float(np.abs(kept).sum(dtype=np.float64))
    if before < _TINY or after < _TINY:
        return kept
    return np.multiply(kept, np.float32(before / after), out=kept)


class DropToNorm(Drop):
    """As `drop` without `rescale`, with kept elements scaled so that the tensor's L1 norm stays the same."""

    unit: ClassVar[Unit] = "tensor"
    rescale: bool = False

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        return _to_norm(super().apply, values, place, thresholds)


class MagnitudeDropToNorm(MagnitudeDrop):
    """As `magnitude_drop` without `rescale`, with kept elements scaled so that the tensor's L1 norm stays the same."""

    unit: ClassVar[Unit] = "tensor"
    rescale: bool = False

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        return _to_norm(super().apply, values, place, thresholds)


class TrimToNorm(Trim):
    """As `trim`, with kept elements scaled so that the tensor's L1 norm stays the same."""

    unit: ClassVar[Unit] = "tensor"

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        return _to_norm(super().apply, values, place, thresholds)


class OutliersToNorm(Outliers):
    """As `outliers`, with kept elements scaled so that the tensor's L1 norm stays the same."""

    unit: ClassVar[Unit] = "tensor"

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        return _to_norm(super().apply, values, place, thresholds)
