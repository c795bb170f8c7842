"""Digests of files, and a cache of them.

SHA-256 is for what is published and built, BLAKE3 for what a family of models shares, XXH128 for the weights of merges: it
tells damage from what was written, several times as fast, and is no defence against somebody who looks for two files with one
digest.

Raw data is large and rarely changes, so its digests are cached under its absolute path and its `Stamp`. A file that
changed so recently that another change could get the same modification time is not cached. Only the modification time
tells how recent that is: a file that is rewritten at once, with its old size and time, within a tick of the file system's
clock, is taken for the old one.
"""

import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from mmgrid.files.folder import write_json

log = logging.getLogger(__name__)

DIGEST_KINDS = ("xxh128", "blake3", "sha256")  # the one that takes the least time first
_CACHED_BYTES = 1 << 19  # they stay in a core's second-level cache until they are hashed
_SETTLED_SECONDS = 2.0  # FAT has the coarsest timestamps in use, two seconds


def sha256_file(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """As `digest_file`, of the kind SHA-256."""
    return digest_file(path, "sha256", progress)


class Digest(Protocol):
    """A digest that is being computed."""

    def update(self, content: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


def new_digest(kind: str) -> Digest:
    """A digest of one of `DIGEST_KINDS`, of no bytes yet.

    Its hexadecimal digits are what `xxh128sum`, `b3sum` and `sha256sum` print.
    """
    if kind == "xxh128":
        from xxhash import xxh3_128

        return xxh3_128()
    if kind == "blake3":
        from blake3 import blake3

        return blake3()
    if kind == "sha256":
        return hashlib.sha256()
    raise ValueError(f"{kind!r} is no kind of digest")


def blake3_file(path: Path) -> str:
    """As `digest_file`, of the kind BLAKE3."""
    return digest_file(path, "blake3")


def digest_file(path: Path, kind: str, progress: Callable[[int], None] | None = None) -> str:
    """The digest of a file's content of one of `DIGEST_KINDS`, in hexadecimal digits.

    progress: called with the number of bytes that were read since the last call.
    """
    digest, buffer = new_digest(kind), memoryview(bytearray(_CACHED_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            if progress is not None:
                progress(count)
    return digest.hexdigest()


def sha256_files(folder: Path, *, skip: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """The digest and size of every file below a folder, sorted: {path with "/": {"sha256", "bytes"}}.

    `skip` names entries at the top of `folder` that are left out, with their contents.

    Raises:
        ValueError: the folder holds a symbolic link, the target of which could change unnoticed.
    """
    files: dict[str, dict[str, Any]] = {}
    for parent, folders, names in os.walk(folder):
        top = Path(parent) == folder
        folders[:] = [name for name in folders if not (top and name in skip)]
        for name in [*folders, *names]:
            path = Path(parent) / name
            if path.is_symlink():
                raise ValueError(f"{path}: is a symbolic link; a folder with a record may hold plain files only")
            if name in names and not (top and name in skip):
                relative = path.relative_to(folder).as_posix()
                files[relative] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    return dict(sorted(files.items()))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", value) is not None


@dataclass(frozen=True)
class Stamp:
    """The state of a file, as far as it shows without reading.

    The time of its last change (ctime) is set by the system alone: a file that was written and given its old size and
    modification time has another one. Another inode tells that a file was put in its place. On Windows the system gives the
    time of creation in its place, so that such a rewriting of a file does not show there.
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> Self:
        """The present state of `file`. Raises OSError if there is none."""
        return cls.read_from(file.stat())

    @classmethod
    def read_from(cls, status: os.stat_result) -> Self:
        """The state that a call of `stat` told."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class DigestCache:
    """Digests of large files that rarely change, cached in one JSON file.

    Several processes may share a cache. Each write keeps the entries of the others; a race may lose an entry, which is
    then computed again. A cache that cannot be read or written costs time, never correctness.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()

    def sha256(self, file: Path) -> str:
        """The SHA-256 of `file`, from the cache if it is in the same state as then (`Stamp`).

        Raises:
            OSError: the file cannot be read, or it changed while it was read.
        """
        return self.of(file, "sha256", sha256_file)

    def of(self, file: Path, kind: str, compute: Callable[[Path], str]) -> str:
        """The digest of a kind of `file`, from the cache if it is in the same state as then (`Stamp`).

        compute: computes it otherwise, from the path without links.

        Raises:
            OSError: the file cannot be read, or it changed while it was read.
        """
        file = file.resolve()
        stamp = Stamp.of(file)
        known = self._known(file, stamp)
        if kind in known:
            return known[kind]
        digest = compute(file)
        now = Stamp.of(file)
        if (now.bytes, now.mtime_ns) != (stamp.bytes, stamp.mtime_ns):
            raise OSError(f"{file}: changed while it was read; run again when no process writes to it")
        if now == stamp and abs(time.time() - stamp.mtime_ns / 1e9) > _SETTLED_SECONDS:
            self._remember(file, {**known, **asdict(stamp), kind: digest})
        return digest

    def known(self, file: Path, kind: str) -> str | None:
        """The digest of a kind of `file`, if it is in the cache.

        Raises:
            OSError: the file cannot be read.
        """
        file = file.resolve()
        return self._known(file, Stamp.of(file)).get(kind)

    def _known(self, file: Path, stamp: Stamp) -> dict[str, Any]:
        """What is remembered about a file in this state."""
        entry = self._read().get(str(file))
        if isinstance(entry, dict) and all(entry.get(name) == value for name, value in asdict(stamp).items()):
            return {name: value for name, value in entry.items() if name not in DIGEST_KINDS or _is_digest(value)}
        return {}

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s: cannot be read (%s); digests are computed again", self.path, error)
            return {}
        return entries if isinstance(entries, dict) else {}

    def _remember(self, file: Path, entry: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._writing:
                write_json(self.path, {**self._read(), str(file): entry}, sync=False)
        except OSError as error:
            log.warning(
                "%s: cannot be written (%s); digests are not remembered",
                self.path,
                getattr(error, "strerror", None) or error,
            )
