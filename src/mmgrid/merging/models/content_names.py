"""Names for weights by their content, from a small part of it: known before a merge, in milliseconds.

A source's name fixes the order of sums and the masks, so it must be known before the first tensor is read. It depends
on nothing but the content: not on paths, and not on what a cache remembers.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_PIECE_BYTES = 1 << 12
_PIECES = 1 << 10


def content_of(files: Iterable[Path]) -> dict[str, dict[str, str]]:
    """As `Hashing.of`, but for each file its SHA-256 only up to 4 MiB.

    Above, it is that of the file's size and of 1,024 pieces of 4 KiB at equal distances, the first and the last
    included. So files that differ in few places may share it.

    Raises:
        OSError: a file cannot be read.
    """
    files = list(files)
    names = names_of(files)
    return {names[file]: {"sha256": _name_of(file)} for file in files}


def names_of(files: Iterable[Path]) -> dict[Path, str]:
    """The name of each file of a model in a record; those of its modules have their folder's before it."""
    names: dict[Path, str] = {}
    for file in files:
        names[file] = f"{file.parent.name}/{file.name}" if file.name in names.values() else file.name
    return names


def _name_of(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb", buffering=0) as stream:
        if size <= _PIECES * _PIECE_BYTES:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        sample = hashlib.sha256(size.to_bytes(8, "little"))
        for number in range(_PIECES):
            stream.seek(number * (size - _PIECE_BYTES) // (_PIECES - 1))
            sample.update(stream.read(_PIECE_BYTES))
        return sample.hexdigest()
