"""Estimates the cost of a merge before it begins: bytes read and written, memory, and the time that the disk needs.

No program can be faster than the bound: the time to read every source once and to write the result once. The speed of
the disk is measured on parts of the same files, because it depends on what the system has cached.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.files import clear_disk_errors
from mmgrid.machine.positioned import open_to_read, read_at, write_at
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.preparation import needs_passes
from mmgrid.merging.engine.thresholds import SMALL_GROUP
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.sources import Source
from mmgrid.merging.plan.prepare import PreparedMerge, prepare_merge
from mmgrid.merging.plan.program import AppliedMethod
from mmgrid.merging.plan.recipe import MergeRecipe

MEASURED_BYTES = 256 << 20  # at most; a smaller merge is measured on all of its bytes
_PIECE = 4 << 20
_SECONDS = 1.0  # time limit for reading, and for writing


@dataclass(frozen=True)
class DiskSpeed:
    """Bytes per second, including reads from the system's cache."""

    read: float
    write: float

    def bound(self, read: int, written: int) -> float:
        """The seconds needed to read `read` bytes and to write `written` bytes."""
        return read / self.read + written / self.write


@dataclass(frozen=True)
class Estimate:
    """The cost of a merge.

    Attributes:
        method: the recipe's method.
        merged, kept, dropped: numbers of tensors.
        parameters: elements in the merged tensors.
        bytes_read: bytes of the sources' and bases' tensors, each counted once.
        bytes_written: bytes of the result's tensors.
        bytes_passed: bytes read in all passes; thresholds and angles need passes before the merge itself.
        passes: `bytes_passed` over `bytes_read`.
        peak_memory: approximate number of bytes held in addition to the interpreter.
        workers: number of threads.
        speed: the measured speed of the disk; None if it was not measured.
        bound: seconds needed at that speed to read everything once and to write the result.
    """

    method: str
    merged: int
    kept: int
    dropped: int
    parameters: int
    bytes_read: int
    bytes_written: int
    bytes_passed: int
    peak_memory: int
    workers: int
    speed: DiskSpeed | None

    @property
    def passes(self) -> float:
        return self.bytes_passed / self.bytes_read if self.bytes_read else 0.0

    @property
    def bound(self) -> float | None:
        return None if self.speed is None else self.speed.bound(self.bytes_read, self.bytes_written)


def estimate(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    measure: bool = True,
) -> Estimate:
    """Check a recipe as `merge` does, and estimate its cost. Nothing is written.

    Args:
        recipe: as for `merge`.
        out: the folder of the result, whose disk is measured. Default: the folder for temporary files.
        workers: number of threads. Default: one per core.
        measure: measure the speed of the disk.

    Raises:
        MergeError: recipe and sources do not fit.
    """
    recipe, workers = MergeRecipe.load(recipe).anchored(), workers or default_workers()
    named = tuple(
        source if source.name else source.model_copy(update={"name": str(source.path)}) for source in recipe.sources
    )
    with prepare_merge(recipe.model_copy(update={"sources": named}), workers=workers, digests=False) as prepared:
        read, written = read_bytes(prepared), sum(info.bytes for info in prepared.plan.stored.values())
        speed = None
        if measure:
            speed = disk_speed(list(prepared.folders.values()), _existing_folder(out), read, written, workers)
        plan = prepared.plan
        return Estimate(
            method=recipe.method,
            merged=len(plan.merged),
            kept=len(plan.kept),
            dropped=len(plan.dropped),
            parameters=sum(info.size for info in plan.merged.values()),
            bytes_read=read,
            bytes_written=written,
            bytes_passed=read + _passed_again(prepared),
            peak_memory=_peak(prepared, workers),
            workers=workers,
            speed=speed,
        )


def read_bytes(prepared: PreparedMerge) -> int:
    """Bytes of the sources' and bases' tensors, each counted once."""
    folders = {id(folder): folder for folder in prepared.folders.values()}
    return sum(folder.info(name).bytes for folder in folders.values() for name in folder)


def disk_speed(sources: Sequence[Source], folder: Path, read: int, written: int, workers: int) -> DiskSpeed:
    """Measure the speed of reading the sources' files, and of writing a new file to the disk.

    Args:
        sources: parts spread over their files are read.
        folder: the folder of the new file, which is removed again.
        read, written: bytes that the merge has to read and write; at most these are measured.
        workers: number of threads.

    Raises:
        DiskFull, NotWritableError: the file cannot be written.
    """
    files = sorted({file for source in sources for file in source.files if file.stat().st_size})
    pieces = _spread(files, min(MEASURED_BYTES, max(read, 1)))
    reading = _timed(pieces, _read, workers)
    block = os.urandom(_PIECE)  # file systems cannot compress it
    size = min(MEASURED_BYTES, max(written, 1))
    places = [(start, block[: min(_PIECE, size - start)]) for start in range(0, size, _PIECE)]
    with clear_disk_errors(folder, remedy="give another output folder"):
        with tempfile.TemporaryFile(dir=folder) as stream:

            def write(piece: tuple[int, bytes]) -> int:
                return write_at(stream.fileno(), memoryview(piece[1]), piece[0])

            writing = _timed(places, write, workers, lambda: os.fsync(stream.fileno()))
    return DiskSpeed(reading, writing)


def _spread(files: Sequence[Path], size: int) -> list[tuple[Path, int, int]]:
    """Parts (file, start, bytes) spread evenly over the files, with about `size` bytes in all."""
    parts = []
    for file in files:
        length = file.stat().st_size
        parts += [(file, start, min(_PIECE, length - start)) for start in range(0, length, _PIECE)]
    wanted = max(-(-size // _PIECE), 1)
    step = max(len(parts) / wanted, 1.0)
    return [parts[int(number * step)] for number in range(min(wanted, len(parts)))]


def _read(piece: tuple[Path, int, int]) -> int:
    file, start, size = piece
    buffer = np.empty(size, np.uint8)
    descriptor = open_to_read(file)
    try:
        return read_at(descriptor, buffer.data, start)
    finally:
        os.close(descriptor)


def _timed(
    pieces: Sequence[Any], work: Callable[[Any], int], workers: int, finish: Callable[[], None] | None = None
) -> float:
    """Bytes per second over the pieces that the time limit allows."""
    begun, done = time.monotonic(), []

    def timed(piece: Any) -> None:
        if time.monotonic() - begun < _SECONDS:
            done.append(work(piece))

    for_each(pieces, timed, workers)
    if finish is not None:
        finish()
    return max(sum(done), 1) / max(time.monotonic() - begun, 1e-9)


def _existing_folder(out: str | Path | None) -> Path:
    """The nearest existing folder above `out`."""
    if out is None:
        return Path(tempfile.gettempdir())
    folder = Path(out).absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise MergeError(f"{folder}: is not writable; give another output folder")
    return folder


def _passed_again(prepared: PreparedMerge) -> int:
    """Bytes read in the passes before the merge itself, which find thresholds and angles."""
    total = 0
    for name, part in prepared.plan.merged_parts():
        applied = prepared.program.applied(name)
        times = sum(bool(stages[0].ranks(1)) for stages in applied.steps)
        times += needs_passes(applied) * (2 if applied.method.takes_passes else 1)
        widths = [
            source.info(name).bytes // max(source.info(name).size, 1) for source in prepared.program.sources.values()
        ]
        if applied.on_deltas and applied.base is not None:
            widths.append(applied.base.info(name).bytes // max(applied.base.info(name).size, 1))
        total += times * (part.stop - part.start) * sum(widths)
    return total


def _peak(prepared: PreparedMerge, workers: int) -> int:
    """Approximate memory of the most expensive method: runs in float32 for each thread, a group's magnitudes, or tensors."""
    n = len(prepared.program.sources) + 1
    sizes: dict[int, list[int]] = {}
    for name, part in prepared.plan.merged_parts():
        sizes.setdefault(prepared.program.index_of(name), []).append(part.stop - part.start)
    most = 0
    for number, own in sizes.items():
        applied, largest = prepared.program.methods[number], max(own)
        run = min(CHUNK_ELEMENTS, largest)
        most = max(most, workers * _of_thread(applied, n, run, largest))
        scopes = {stages[0].scope for stages in applied.steps if stages[0].ranks(1)}
        if scopes:
            group = largest if scopes == {"tensor"} else sum(own)
            # The magnitudes of each source, and a sorted copy of one.
            held = workers * 4 * (n + 1) * min(group, SMALL_GROUP)
            most = max(most, held + workers * _of_thread(applied, n, run, largest))
            if group > SMALL_GROUP:
                most += 64 << 20  # histograms
        elif needs_passes(applied):  # a tensor of all models is held while it is read twice
            most = max(most, workers * (4 * n * min(largest, SMALL_GROUP) + _of_thread(applied, n, run, largest)))
    return most


def _of_thread(applied: AppliedMethod, n: int, run: int, largest: int) -> int:
    """Bytes of the arrays that one thread holds, for `n` models."""
    if applied.method.whole_tensors or any(stages[0].unit == "tensor" for stages in applied.steps):
        return 4 * largest * (3 * n + 4)
    return 4 * run * (3 * n + 6 + 4 * len(applied.steps))
