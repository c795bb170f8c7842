"""Reads the parts of a domain run by run: numbers that are added to the reference, or the bytes themselves.

The reference of a part is the shared model's tensor (in a chain, that of the checkpoint before), restricted to the token
rows that the part has. Every value is defined by numpy's arithmetic in float32, in the order given here:

- delta: reference + level · scale; mask: base + λ · (m · (shared − base)); then rounded once to the tensor's type
- exact: the bytes of the reference, in the tensor's type, plus the stored difference
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import LARGEST, STORAGE, Floats, is_float, narrow, widen
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.family.file import PartEntry, TensorEntry
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo
from mmgrid.merging.parts import exact
from mmgrid.merging.parts.delta import SCALES, Grid, times_scales
from mmgrid.merging.parts.mask import BITS as MASK_BITS
from mmgrid.merging.parts.mask import masked
from mmgrid.merging.parts.packing import TOGETHER, packed_size, unpack, values_of

# What a part's file calls the tensors of one tensor; a model's names hold no colon followed by these words.
CODES, SCALES_OF, LEVELS, BLOCKS, ENDS, FACTOR = ":codes", ":scales", ":levels", ":blocks", ":ends", ":factor"
_KEPT = 64  # small tensors (levels, factors, ends of blocks) that stay in memory

Run = Callable[[str, int, int], Floats]  # elements [start, stop) of what a tensor's part refers to, in float32


def as_type(stored: np.ndarray, info: TensorInfo, dtype: str) -> np.ndarray:
    """Elements in another floating-point type; what the type cannot hold becomes zero or its largest number."""
    if info.dtype == dtype:
        return stored
    values = widen(stored, info.dtype)
    values = np.where(np.isfinite(values), values, np.float32(0))
    return narrow(np.clip(values, -LARGEST[dtype], LARGEST[dtype]).astype(np.float32), dtype)


def rounded(values: Floats, dtype: str) -> np.ndarray:
    """float32 in the type of a tensor; beyond its range, an infinity."""
    with np.errstate(over="ignore"):
        return narrow(values, dtype)


class PartFile:
    """One safetensors file of a domain; small tensors stay in memory. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.folder = TensorFolder(path)
        self._small: dict[str, np.ndarray] = {}
        self._holding = threading.Lock()

    def small(self, name: str) -> np.ndarray:
        """A whole tensor, kept for the next call."""
        with self._holding:
            found = self._small.get(name)
        if found is None:
            found = self.folder.read(name, 0, self.folder.info(name).size).copy()
            with self._holding:
                while len(self._small) >= _KEPT:
                    del self._small[next(iter(self._small))]
                self._small[name] = found
        return found

    def packed(self, name: str, bits: int, start: int, stop: int) -> tuple[np.ndarray, int]:
        """The bytes of codes [start, stop), and how many codes before `start` they hold."""
        first = start // TOGETHER
        return self.folder.read(name, first * bits, -(-stop // TOGETHER) * bits), start - first * TOGETHER

    def check(self, name: str, dtype: str, size: int) -> None:
        """Check that a tensor is there.

        Raises:
            MergeError: it is not, or is another one.
        """
        if name not in self.folder:
            raise MergeError(
                f"{self.folder.path}: lacks {name}, which family.json lists; copy or write the family again"
            )
        info = self.folder.info(name)
        if info.dtype != dtype or info.size != size:
            raise MergeError(
                f"{self.folder.path}: {name}: is {info.dtype} with {info.size} elements, and should be {dtype} with {size}; "
                "copy or write the family again"
            )


@dataclass(frozen=True)
class DeltaReader:
    """Reads differences in a few bits. reference: runs of the tensors that they are added to."""

    file: PartFile
    reference: Run

    @staticmethod
    def grid(part: PartEntry, shape: tuple[int, ...]) -> Grid:
        return Grid.of(shape, part.options.get("group"))

    def check(self, name: str, part: PartEntry, shape: tuple[int, ...]) -> None:
        grid, bits = self.grid(part, shape), part.options["bits"]
        self.file.check(name + CODES, "uint8", packed_size(grid.rows * grid.columns, bits))
        self.file.check(name + SCALES_OF, SCALES, grid.scales)
        self.file.check(name + LEVELS, "float32", 2**bits)

    def read(
        self, name: str, entry: TensorEntry, part: PartEntry, shape: tuple[int, ...], start: int, stop: int
    ) -> np.ndarray:
        bits, grid = part.options["bits"], self.grid(part, shape)
        packed, before = self.file.packed(name + CODES, bits, start, stop)
        values = values_of(packed, bits, self.file.small(name + LEVELS).tobytes())[before : before + stop - start]
        first, last = grid.groups_of(start, stop)
        scales = widen(self.file.folder.read(name + SCALES_OF, first, last), SCALES)
        times_scales(values, scales, grid, start)
        values += self.reference(name, start, stop)
        return rounded(values, entry.dtype)


@dataclass(frozen=True)
class MaskReader:
    """Reads masks. shared, base: runs of θ_shared and θ₀."""

    file: PartFile
    shared: Run
    base: Run

    def check(self, name: str, part: PartEntry, shape: tuple[int, ...]) -> None:
        self.file.check(name + CODES, "uint8", packed_size(int(np.prod(shape, dtype=np.int64)), MASK_BITS))
        self.file.check(name + FACTOR, "float32", 1)

    def read(
        self, name: str, entry: TensorEntry, part: PartEntry, shape: tuple[int, ...], start: int, stop: int
    ) -> np.ndarray:
        packed, before = self.file.packed(name + CODES, MASK_BITS, start, stop)
        mask = unpack(packed, MASK_BITS)[before : before + stop - start]
        factor = float(self.file.small(name + FACTOR)[0])
        return rounded(masked(self.base(name, start, stop), self.shared(name, start, stop), mask, factor), entry.dtype)


class ExactReader:
    """Reads compressed bytes. stored: runs of the reference in the type of the tensor that is read."""

    def __init__(self, file: PartFile, stored: Callable[[str, int, int], np.ndarray]) -> None:
        self.file, self._stored = file, stored
        self._last = threading.local()  # the block that each thread read last

    def check(self, name: str, part: PartEntry, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=np.int64))
        self.file.check(name + ENDS, "int64", -(-size // exact.BLOCK))
        ends = self.file.small(name + ENDS)
        total = self.file.folder.info(name + BLOCKS).size if name + BLOCKS in self.file.folder else -1
        if (np.diff(ends, prepend=0) < 0).any() or (int(ends[-1]) if len(ends) else 0) != total:
            raise MergeError(f"{self.file.folder.path}: {name}: its blocks do not fit; copy or write the family again")

    def read(
        self, name: str, entry: TensorEntry, part: PartEntry, shape: tuple[int, ...], start: int, stop: int
    ) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64))
        found = take(stop - start, STORAGE[entry.dtype])
        done = start
        while done < stop:
            number = done // exact.BLOCK
            first = number * exact.BLOCK
            last = min(first + exact.BLOCK, size)
            block = self._block(name, entry, number, first, last)
            until = min(last, stop)
            found[done - start : until - start] = block[done - first : until - first]
            done = until
        return found

    def _block(self, name: str, entry: TensorEntry, number: int, first: int, last: int) -> np.ndarray:
        kept = getattr(self._last, "block", None)
        if kept is not None and kept[0] == (name, number):
            return kept[1]
        ends = self.file.small(name + ENDS)
        begin, end = int(ends[number - 1]) if number else 0, int(ends[number])
        raw = self.file.folder.read(name + BLOCKS, begin, end).tobytes()
        reference = self._stored(name, first, last) if entry.difference else None
        try:
            block = exact.restored(raw, last - first, STORAGE[entry.dtype], reference)
        except exact.BrokenBlockError as error:
            raise MergeError(
                f"{self.file.folder.path}: {name}: is damaged ({error}); copy or write the family again"
            ) from error
        self._last.block = ((name, number), block)
        return block


def finite_kinds(dtype: str) -> bool:
    """Whether differences in few bits, masks and updates of low rank can write a type: floats computed in float32."""
    return is_float(dtype) and dtype != "float64"
