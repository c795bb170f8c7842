"""Digests of weight files, taken while a merge reads them, and the names that people read for digests.

A record holds the XXH128 digest of a file, which takes hardly any time; for a file in the Hub's cache its SHA-256, which
is its name there. Older records hold BLAKE3 in its place, or SHA-256 for all files.
"""

import hashlib
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mmgrid.files import DIGEST_KINDS, DigestCache, digest_file, short_name_of
from mmgrid.merging.arrays.cache import cache_folder
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.models.content_names import names_of
from mmgrid.merging.models.passing import Followed, PassingDigest

_HEXADECIMAL = frozenset("0123456789abcdef")
_FOLLOWED_BYTES = 1 << 22  # smaller files are read again, which takes no time
Files = dict[str, dict[str, Any]]  # name of a file → its digests by their kinds, and its `bytes`
LEAST_TIME = ("xxh128", "sha256")


class Hashing:
    """Computes the digests of files: from what others read of them, the rest in threads of its own.

    Digests are cached in the user's cache folder by path, size and time, because sources are never written to. Use as a
    context manager; its end stops what is not finished.

    Args:
        kinds: the digests to choose from, of `DIGEST_KINDS`. Each file gets one, which takes the least time: in the
            Hub's cache SHA-256, which is its name there.
        every: compute all of them instead.
    """

    def __init__(
        self, files: Collection[Path], workers: int, kinds: Collection[str] = LEAST_TIME, *, every: bool = False
    ) -> None:
        self._cache = DigestCache(cache_folder() / "digests.json")
        self._files, self._workers, self._every = sorted(set(files)), workers, every
        self._kinds = [kind for kind in DIGEST_KINDS if kind in kinds]
        self._digests: dict[Path, dict[str, str]] = {}
        self._passing: dict[Path, PassingDigest] = {}
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.waited_seconds = 0.0  # until the digests were known

    def follow(self, sources: Iterable[object]) -> None:
        """Take the digests of large files from what `sources` read of them, as far as they can be followed."""
        for source in sources:
            if isinstance(source, Followed):
                source.follow(self._passing_digest)

    def _passing_digest(self, file: Path) -> PassingDigest | None:
        if file not in self._passing:
            if file not in self._files or self._every or file.stat().st_size < _FOLLOWED_BYTES:
                return None
            (kind,) = self._kinds_of(file)
            if (kind == "sha256" and digest_by_hub(file)) or self._cache.known(file, kind):
                return None
            self._passing[file] = PassingDigest(file, kind)
        return self._passing[file]

    def start(self) -> None:
        """Begin with the files that are not followed; `of` does so as well."""
        if self._thread is None:
            files = [file for file in self._files if file not in self._passing]
            thread = threading.Thread(target=self._run, args=(files,), name="digests", daemon=True)
            thread.start()
            self._thread = thread

    def of(self, files: Collection[Path]) -> Files:
        """For each file: its name → its digests and `bytes`. Waits until they are known; nobody may read any more.

        Raises:
            OSError: a file cannot be read, or was changed while it was read.
        """
        clock = time.monotonic()
        self.start()
        assert self._thread is not None
        self._thread.join()
        self._run([file for file in self._passing if file not in self._digests])
        self.waited_seconds += time.monotonic() - clock
        if self._failure is not None:
            raise self._failure
        names = names_of(files)
        return {names[file]: {**self._digests[file], "bytes": file.stat().st_size} for file in files}

    def _run(self, files: Sequence[Path]) -> None:
        try:
            for_each(files, self._digest, self._workers)
        except BaseException as error:  # raised where the digests are asked for
            self._failure = error

    def _kinds_of(self, file: Path) -> Collection[str]:
        if self._every:
            return self._kinds
        return ["sha256"] if "sha256" in self._kinds and digest_by_hub(file) else self._kinds[:1]

    def _digest(self, file: Path) -> None:
        found: dict[str, str] = {}
        for kind in self._kinds_of(file):
            found[kind] = (kind == "sha256" and digest_by_hub(file)) or self._cache.of(
                file, kind, lambda target, kind=kind: self._computed(file, target, kind)
            )
        self._digests[file] = found

    def _computed(self, file: Path, target: Path, kind: str) -> str:
        passing = self._passing.get(file)
        if passing is not None:
            return passing.finish(self._check_wanted)
        return digest_file(target, kind, self._check_wanted)

    def _check_wanted(self, _: int) -> None:
        if self._stopped.is_set():
            raise InterruptedError("the merge ended before its sources were hashed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        for passing in self._passing.values():
            passing.close()


def digest_by_hub(file: Path) -> str | None:
    """The SHA-256 of a large file in the Hub's cache, which is the name of its blob there; None for other files."""
    blob = file.resolve()
    in_cache = blob.parent.name == "blobs" and blob.parent.parent.name.startswith("models--")
    return blob.name if in_cache and _is_digest(blob.name) else None


def digest_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The digest that a record has for a file, after its kind; if it has several, the first of `DIGEST_KINDS`."""
    return next((kind, str(entry[kind])) for kind in DIGEST_KINDS if kind in entry)


def kinds_in(entries: Collection[Mapping[str, Any]]) -> list[str]:
    """The kinds of digests by which the entries of a record can be compared: if possible one that all have."""
    common = [kind for kind in DIGEST_KINDS if entries and all(kind in entry for entry in entries)]
    return common[:1] or [kind for kind in DIGEST_KINDS if any(kind in entry for entry in entries)]


def differs(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two entries for a file have no kind of digest in common, or one that differs."""
    common = [kind for kind in DIGEST_KINDS if kind in recorded and kind in now]
    return not common or any(recorded[kind] != now[kind] for kind in common)


def joint_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One SHA-256 for all weight files of a model; that of a single file is its own."""
    digests = [entry["sha256"] for _, entry in sorted(files.items())]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def short_name(name: str, path: Path) -> str:
    """A source's name for people: its folder's name if the source is named by its content."""
    return short_name_of(path) or str(path) if _is_digest(name) else name


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not set(text) - _HEXADECIMAL
