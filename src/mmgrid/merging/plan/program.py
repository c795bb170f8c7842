"""The program of a merge: which method, with which weights, scale, options and base, computes each tensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.methods import Method
from mmgrid.merging.methods.stages import Stage
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.statistics import check_statistics
from mmgrid.patterns import fits

Scale = float | Sequence[float]


@dataclass(frozen=True)
class AppliedMethod:
    """A method with all that it is applied with, for the tensors whose names fit one of the patterns `match`.

    Attributes:
        options: with all defaults filled in.
        weights: in the order of the sources' names.
        scale: λ, or several values spread evenly over the depth.
        base: the tensors of θ₀.
        stages: for each source, in the order of the names, its stages.
    """

    match: tuple[str, ...]
    method: Method
    options: Mapping[str, Any]
    weights: Sequence[float]
    scale: Scale
    base: Tensors | None
    stages: tuple[tuple[Stage, ...], ...] = ()

    @property
    def steps(self) -> tuple[tuple[Stage, ...], ...]:
        """The stages by position, each for all sources; sources differ only in a stage's options."""
        return tuple(zip(*self.stages, strict=True))

    def fits(self, tensor: str) -> bool:
        return fits(tensor, self.match)

    @property
    def on_deltas(self) -> bool:
        """Whether the method's input is task vectors; otherwise it is parameters."""
        return self.method.returns == "delta" or (self.method.base == "optional" and self.base is not None)

    def scale_at(self, depth: float) -> float:
        """λ of a tensor at this depth (0 the first layer, 1 the last)."""
        if isinstance(self.scale, int | float):
            return float(self.scale)
        return float(np.interp(depth, np.linspace(0, 1, len(self.scale)), self.scale))


@dataclass(frozen=True)
class Program:
    """The sources, sorted by name, and the methods for their tensors.

    For each tensor the first method that fits counts; the last one fits every tensor.

    statistics: name of a source → what was measured of it, for the methods that take that.
    """

    sources: dict[str, Tensors]
    methods: tuple[AppliedMethod, ...]
    seed: int
    statistics: Mapping[str, Tensors] = field(default_factory=dict)
    _indices: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def index_of(self, tensor: str) -> int:
        """The index of the method for a tensor."""
        if tensor not in self._indices:
            self._indices[tensor] = next(index for index, applied in enumerate(self.methods) if applied.fits(tensor))
        return self._indices[tensor]

    def applied(self, tensor: str) -> AppliedMethod:
        """The method for a tensor."""
        return self.methods[self.index_of(tensor)]


def make_program(
    sources: Mapping[str, Tensors],
    methods: Sequence[AppliedMethod],
    seed: int,
    statistics: Mapping[str, Tensors] | None = None,
) -> Program:
    """A program for sources in any order.

    Raises:
        MergeError: there are no sources, the seed is negative, or statistics are missing or do not fit.
    """
    if not sources:
        raise MergeError(f"{methods[-1].method.name}: there are no sources to merge")
    if seed < 0:
        raise MergeError(f"{methods[-1].method.name}: seed is {seed}; it must be 0 or more")
    check_statistics(sources, methods, statistics or {})
    return Program({name: sources[name] for name in sorted(sources)}, tuple(methods), seed, statistics or {})


def check_base(method: Method, has_base: bool) -> None:
    """Check that there is a base if the method needs one, and none if it takes none.

    Raises:
        MergeError: it is not so.
    """
    if method.base == "required" and not has_base:
        raise MergeError(f"{method.name}: needs a base, the model that the sources were trained from")
    if method.base == "none" and has_base:
        raise MergeError(f"{method.name}: has no base; leave it out, or use a method of task vectors")


def apply_method(
    method: Method,
    sources: Mapping[str, Any],
    base: Tensors | None,
    weights: Mapping[str, float] | None,
    scale: Scale,
    options: Mapping[str, Any],
    match: str | Sequence[str] = "*",
) -> AppliedMethod:
    """Check everything that can be checked without reading a tensor, and fill in defaults.

    Raises:
        MergeError: method, base, weights, scale or options do not fit together.
    """
    name, named_weights = method.name, dict(weights or {})
    names = sorted(sources)
    resolved = method.resolve(options, names)
    check_base(method, base is not None)
    if method.returns == "weights" and scale != 1.0 and base is None:
        raise MergeError(f"{name}: has no delta for scale = {scale} to act on; use weights")
    for source in named_weights:
        if source not in sources:
            raise MergeError(
                f"weights: there is no source {source!r}{nearest(source, sources)}; known: {listing(sources)}"
            )
    scales = [scale] if isinstance(scale, int | float) else list(scale)
    if not scales:
        raise MergeError(f"{name}: scale is an empty list; give one number, or one for each step of the depth")
    for number in scales:
        if not math.isfinite(number):
            raise MergeError(f"{name}: scale is {number}; it must be a finite number")
    for source, number in named_weights.items():
        if not math.isfinite(number):
            raise MergeError(f"{name}: weight of {source!r} is {number}; it must be a finite number")
    all_weights = method.weights(names, named_weights, options)
    stages = tuple(method.stages(method.for_source(resolved, source)) for source in names)
    patterns = (match,) if isinstance(match, str) else tuple(match)
    return AppliedMethod(patterns, method, resolved, all_weights, scale, base, stages)
