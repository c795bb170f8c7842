"""What a merge will read, write and hold, and the time that the disk alone needs for it, before anything is done.

The bound is the floor below which no program comes: every source read once, the result written once. How fast this
machine reads and writes is measured on some of the very files, since it depends on what the system has in memory.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.files import clear_disk_errors
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.thresholds import SMALL_GROUP
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.sources import Source
from mmgrid.merging.plan.prepare import OpenMerge, open_merge
from mmgrid.merging.plan.program import Program
from mmgrid.merging.plan.recipe import MergeRecipe

MEASURED_BYTES = 256 << 20  # at most; of a smaller merge, as much as it has
_PIECE = 4 << 20
_SECONDS = 1.0  # for reading, and for writing, before the rest is left out


@dataclass(frozen=True)
class DiskSpeed:
    """Bytes per second, as they come to this process: from memory where the system has the files there."""

    read: float
    write: float

    def bound(self, read: int, written: int) -> float:
        """The seconds that reading and writing so many bytes takes."""
        return read / self.read + written / self.write


@dataclass(frozen=True)
class Estimate:
    """What a merge is going to cost.

    Attributes:
        method: the recipe's.
        merged, kept, dropped: numbers of tensors.
        parameters: elements in the merged tensors.
        bytes_read: of sources and bases, each counted once.
        bytes_written: of tensors.
        bytes_passed: what is read in all: thresholds and angles are found in passes of their own.
        passes: `bytes_passed` over `bytes_read`.
        peak_memory: about how many bytes are held beside the interpreter.
        workers: threads.
        speed: of the disk, measured; None if that was not wanted.
        bound: the seconds that one reading and one writing take at that speed.
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
    """Check a recipe as `merge` does and say what it will cost. Nothing is left behind.

    Args:
        recipe: as for `merge`.
        out: where the result would go: its disk is measured. Default: the folder for temporary files.
        workers: threads. Default: one per core.
        measure: measure how fast files are read and written.

    Raises:
        MergeError: recipe and sources do not fit.
    """
    recipe, workers = MergeRecipe.load(recipe).anchored(), workers or default_workers()
    named = tuple(
        source if source.name else source.model_copy(update={"name": str(source.path)}) for source in recipe.sources
    )
    with open_merge(recipe.model_copy(update={"sources": named}), workers=workers, digests=False) as opened:
        read, written = read_bytes(opened), sum(info.bytes for info in opened.plan.infos.values())
        speed = None
        if measure:
            speed = disk_speed(list(opened.folders.values()), _standing_folder(out), read, written, workers)
        plan = opened.plan
        return Estimate(
            method=recipe.method,
            merged=len(plan.merged),
            kept=len(plan.kept),
            dropped=len(plan.dropped),
            parameters=sum(info.size for info in plan.merged.values()),
            bytes_read=read,
            bytes_written=written,
            bytes_passed=read + _passed_again(opened),
            peak_memory=_peak(opened, workers),
            workers=workers,
            speed=speed,
        )


def read_bytes(opened: OpenMerge) -> int:
    """Bytes of tensors in the sources and bases, each counted once."""
    folders = {id(folder): folder for folder in opened.folders.values()}
    return sum(folder.info(name).bytes for folder in folders.values() for name in folder)


def disk_speed(sources: Sequence[Source], beside: Path, read: int, written: int, workers: int) -> DiskSpeed:
    """Measure how fast the sources' files are read, and a new file in a folder is written and brought to the disk.

    Args:
        sources: of whose files some parts, all over them, are read.
        beside: the folder for the new file, which is removed again.
        read, written: bytes that the merge has to read and write; no more are taken.
        workers: threads.

    Raises:
        DiskFull, NotWritableError: the file cannot be written.
    """
    files = sorted({file for source in sources for file in source.files if file.stat().st_size})
    pieces = _spread(files, min(MEASURED_BYTES, max(read, 1)))
    reading = _timed(pieces, _read, workers)
    block = os.urandom(_PIECE)  # what a file system cannot make smaller
    size = min(MEASURED_BYTES, max(written, 1))
    places = [(start, block[: min(_PIECE, size - start)]) for start in range(0, size, _PIECE)]
    with clear_disk_errors(beside, remedy="give another output folder"):
        with tempfile.TemporaryFile(dir=beside) as stream:

            def write(piece: tuple[int, bytes]) -> int:
                return os.pwrite(stream.fileno(), piece[1], piece[0])

            writing = _timed(places, write, workers, lambda: os.fsync(stream.fileno()))
    return DiskSpeed(reading, writing)


def _spread(files: Sequence[Path], size: int) -> list[tuple[Path, int, int]]:
    """Parts (file, start, bytes) that lie evenly over the files and have about `size` bytes together."""
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
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [buffer.data], start)
    finally:
        os.close(descriptor)


def _timed(
    pieces: Sequence[Any], work: Callable[[Any], int], workers: int, finish: Callable[[], None] | None = None
) -> float:
    """Bytes per second of as many pieces as there is time for."""
    begun, done = time.monotonic(), []

    def timed(piece: Any) -> None:
        if time.monotonic() - begun < _SECONDS:
            done.append(work(piece))

    for_each(pieces, timed, workers)
    if finish is not None:
        finish()
    return max(sum(done), 1) / max(time.monotonic() - begun, 1e-9)


def _standing_folder(out: str | Path | None) -> Path:
    """The nearest folder above `out` that is there."""
    if out is None:
        return Path(tempfile.gettempdir())
    folder = Path(out).absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise MergeError(f"{folder}: nothing may be written there; give another output folder")
    return folder


def _passed_again(opened: OpenMerge) -> int:
    """Bytes that are read once more: before a cut of ranks can be made, and before angles are known."""
    total = 0
    for name, part in opened.plan.merged_parts():
        program = opened.job.program(name)
        times = sum(bool(stages[0].ranks(1)) for stages in program.steps)
        times += program.method.takes_gram and program.method.needs == "tensor"
        widths = [source.info(name).bytes // max(source.info(name).size, 1) for source in opened.job.sources.values()]
        if program.on_deltas and program.base is not None:
            widths.append(program.base.info(name).bytes // max(program.base.info(name).size, 1))
        total += times * (part.stop - part.start) * sum(widths)
    return total


def _peak(opened: OpenMerge, workers: int) -> int:
    """About what the widest program holds: runs in float32 for each thread, or a group's magnitudes, or tensors."""
    n = len(opened.job.sources) + 1
    sizes: dict[int, list[int]] = {}
    for name, part in opened.plan.merged_parts():
        sizes.setdefault(opened.job.number_of(name), []).append(part.stop - part.start)
    most = 0
    for number, own in sizes.items():
        program, largest = opened.job.programs[number], max(own)
        most = max(most, workers * _of_thread(program, n, min(CHUNK_ELEMENTS, largest), largest))
        scopes = {stages[0].scope for stages in program.steps if stages[0].ranks(1)}
        if scopes:
            group = largest if scopes == {"tensor"} else sum(own)
            held = workers * 4 * (n + 1) * min(group, SMALL_GROUP)  # magnitudes of each source, and one of them sorted
            most = max(most, held + workers * _of_thread(program, n, min(CHUNK_ELEMENTS, largest), largest))
            if group > SMALL_GROUP:
                most += 64 << 20  # counts of bins
    return most


def _of_thread(program: Program, n: int, run: int, largest: int) -> int:
    """Bytes of the arrays that one thread has at once; `n` models."""
    if program.method.whole_tensors:
        return 4 * largest * (3 * n + 4)
    return 4 * run * (3 * n + 6 + 4 * len(program.steps))
