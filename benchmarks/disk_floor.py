"""The lower bound of what reads files and writes files: the same bytes, moved and nothing else."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

BLOCK = 1 << 20


def seconds_of_bytes(files: Sequence[Path], folder: Path, written: int) -> float:
    """Seconds to read some files once and to write so many bytes into a folder once, flushed to disk, with two threads."""
    start = time.perf_counter()
    for file in files:
        _in_threads(file, lambda descriptor, buffer, offset: os.preadv(descriptor, [buffer], offset), os.O_RDONLY)
    target = folder / "floor"
    with target.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, written)
    _in_threads(target, lambda descriptor, buffer, offset: os.pwrite(descriptor, buffer, offset), os.O_WRONLY)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def _in_threads(file: Path, move: Callable[[int, memoryview, int], object], flags: int) -> None:
    descriptor, size = os.open(file, flags), file.stat().st_size
    offsets, taking = iter(range(0, size, BLOCK)), threading.Lock()

    def work() -> None:
        buffer = memoryview(bytearray(BLOCK))
        while True:
            with taking:
                offset = next(offsets, None)
            if offset is None:
                return
            move(descriptor, buffer[: min(BLOCK, size - offset)], offset)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
