"""Tells whether somebody wrote to a file while it was read."""

from __future__ import annotations

from pathlib import Path

from mmgrid.merging.errors import MergeError


def stamp_of(file: Path) -> tuple[int, int, int]:
    """Inode, size and time of a file, which change when somebody writes to it."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def check_stamp(file: Path, stamp: tuple[int, int, int]) -> None:
    """Check that nobody has written to a file since it had this stamp.

    Raises:
        MergeError: somebody has.
    """
    if not file.exists() or stamp_of(file) != stamp:
        raise MergeError(f"{file}: was changed while it was read; run again when nothing writes to it")
