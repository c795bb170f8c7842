"""A merge whose names, numbers and options have been checked, ready to be computed."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.methods import Method
from mmgrid.merging.methods.stages import Stage
from mmgrid.merging.models.tensors import Tensors

Scale = float | Sequence[float]


@dataclass(frozen=True)
class Program:
    """How some of the tensors are merged: those that one of the patterns `match` fits, and no earlier program.

    `weights` and `stages` are in the order of the sources' names. `scale` is λ, or several, spread evenly over the
    depth.
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
        """The stages by position, each as it is for every source; sources differ in their options alone."""
        return tuple(zip(*self.stages, strict=True))

    def fits(self, tensor: str) -> bool:
        return any(fnmatch.fnmatchcase(tensor, pattern) for pattern in self.match)

    @property
    def on_deltas(self) -> bool:
        """Whether the method sees task vectors; else parameters."""
        return self.method.returns == "delta" or (self.method.base == "optional" and self.base is not None)

    def scale_at(self, depth: float) -> float:
        """λ of a tensor at this depth (0 the first layer, 1 the last)."""
        if isinstance(self.scale, int | float):
            return float(self.scale)
        return float(np.interp(depth, np.linspace(0, 1, len(self.scale)), self.scale))


@dataclass(frozen=True)
class Job:
    """Sources sorted by name, and the programs for their tensors; the last one fits every tensor."""

    sources: dict[str, Tensors]
    programs: tuple[Program, ...]
    seed: int
    _numbers: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def number_of(self, tensor: str) -> int:
        """Which program is for a tensor."""
        if tensor not in self._numbers:
            self._numbers[tensor] = next(n for n, program in enumerate(self.programs) if program.fits(tensor))
        return self._numbers[tensor]

    def program(self, tensor: str) -> Program:
        return self.programs[self.number_of(tensor)]


def make_job(sources: Mapping[str, Tensors], programs: Sequence[Program], seed: int) -> Job:
    if not sources:
        raise MergeError(f"{programs[-1].method.name}: there are no sources to merge")
    if seed < 0:
        raise MergeError(f"{programs[-1].method.name}: seed is {seed}; it must be 0 or more")
    return Job({name: sources[name] for name in sorted(sources)}, tuple(programs), seed)


def make_program(
    method: Method,
    sources: Mapping[str, Any],
    base: Tensors | None,
    weights: Mapping[str, float] | None,
    scale: Scale,
    options: Mapping[str, Any],
    match: str | Sequence[str] = "*",
) -> Program:
    """Check everything that can be checked without looking at a tensor.

    Raises:
        MergeError: method, base, weights, scale or options do not fit together.
    """
    name, given = method.name, dict(weights or {})
    names = sorted(sources)
    resolved = method.resolve(options, names)
    if method.base == "required" and base is None:
        raise MergeError(f"{name}: needs a base, the model that the sources were trained from")
    if method.base == "none" and base is not None:
        raise MergeError(f"{name}: has no base; leave it out, or use a method of task vectors")
    if method.returns == "weights" and scale != 1.0 and base is None:
        raise MergeError(f"{name}: has no delta for scale = {scale} to act on; use weights")
    for source in given:
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
    for source, number in given.items():
        if not math.isfinite(number):
            raise MergeError(f"{name}: weight of {source!r} is {number}; it must be a finite number")
    shares = method.weights(names, given, options)
    stages = tuple(method.stages(method.for_source(resolved, source)) for source in names)
    patterns = (match,) if isinstance(match, str) else tuple(match)
    return Program(patterns, method, resolved, shares, scale, base, stages)
