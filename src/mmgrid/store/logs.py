"""The logs of a store, in its folder `logs`: what happened while cells were built. They are for people, and decide
nothing; the folder may be removed at any time.

A cell's log is called after its name and the short fingerprint of its version, `logs/corpus/books/3fa9c1d2.log`, since
two versions of one name may be built at the same time. Every attempt at a version appends to its log.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from mmgrid.store.address import Address
from mmgrid.store.places import LOGS_FOLDER, listed

LOG_SUFFIX = ".log"
_PIECE_BYTES = 1 << 16
_LONGEST_LINE_BYTES = 1 << 20  # a longer one comes in pieces


def logs_folder(root: Path) -> Path:
    """The folder of all logs of the store at `root`; it may not exist yet."""
    return root / LOGS_FOLDER


def log_of(root: Path, address: Address) -> Path:
    """The log of a cell; it exists once a process has begun to build the cell."""
    return logs_folder(root) / f"{address.folder}{LOG_SUFFIX}"


def other_logs(root: Path, address: Address) -> list[Path]:
    """The logs of other versions of the cell's name, newest first."""
    own = log_of(root, address)
    found = [path for path in listed(own.parent) if path.suffix == LOG_SUFFIX and path != own]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def add_line(log: Path, text: str) -> None:
    """Append a line to a log; if that fails, do nothing."""
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as stream:
        stream.write(f"{text}\n")


def remove_log(root: Path, address: Address) -> None:
    """Remove the log of a cell, if there is one and it can be removed."""
    with contextlib.suppress(OSError):
        log_of(root, address).unlink(missing_ok=True)


def read_log(log: Path) -> Iterator[bytes]:
    """The content of a log, in pieces that end with a whole line, except perhaps the last and those of very long lines."""
    return follow_log(log, lambda: False, lambda: None)


def follow_log(log: Path, is_building: Callable[[], bool], wait: Callable[[], None]) -> Iterator[bytes]:
    """As `read_log`, and then what is added to the log until its cell is no longer being built.

    is_building: asked before each reading, so nothing that was written by then is missed. wait: called between readings.
    """
    rest = b""
    with log.open("rb") as stream:
        while True:
            going_on = is_building()
            while piece := stream.read(_PIECE_BYTES):
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                if newline:
                    yield whole + newline
                if len(rest) > _LONGEST_LINE_BYTES:
                    yield rest
                    rest = b""
            if not going_on:
                break
            wait()
    if rest:
        yield rest
