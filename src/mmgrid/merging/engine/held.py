"""Tensors that a thread holds in memory, so that several passes over one of them read it once."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.plan.program import Program


class HeldTensors:
    """Other `Tensors`, of which each thread can hold one tensor. Threads may share it."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._own = threading.local()

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Read a tensor as a whole; until the end of the block, this thread's reads of it are parts of that."""
        self._own.name, self._own.values = name, self._tensors.read(name, 0, self.info(name).size)
        try:
            yield
        finally:
            self._own.name = self._own.values = None

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        if getattr(self._own, "name", None) == name:
            return self._own.values[start:stop]
        return self._tensors.read(name, start, stop)

    def info(self, name: str) -> TensorInfo:
        return self._tensors.info(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors


class HeldProgram:
    """A program of which threads can hold single tensors.

    Attributes:
        program: the program, which reads through `HeldTensors`.
    """

    def __init__(self, program: Program) -> None:
        held = {id(tensors): HeldTensors(tensors) for tensors in _tensors_of(program)}
        sources = {name: held[id(tensors)] for name, tensors in program.sources.items()}
        methods = [
            replace(applied, base=None if applied.base is None else held[id(applied.base)])
            for applied in program.methods
        ]
        self.program = Program(dict[str, Tensors](sources), tuple(methods), program.seed, program.statistics)

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Hold one tensor of all models that it is computed from, in this thread."""
        base = self.program.applied(name).base
        with contextlib.ExitStack() as stack:
            for tensors in {*self.program.sources.values(), *([base] if base is not None else [])}:
                assert isinstance(tensors, HeldTensors)
                stack.enter_context(tensors.holding(name))
            yield


def _tensors_of(program: Program) -> Sequence[Tensors]:
    bases = [applied.base for applied in program.methods if applied.base is not None]
    return [*program.sources.values(), *bases]
