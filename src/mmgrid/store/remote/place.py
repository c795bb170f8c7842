"""A place behind a URL: an object store (`s3://`, `gs://`), or any other file system that fsspec knows.

Paths are those below the place, with `/`. A file appears there whole or not at all: object stores do so by themselves,
elsewhere it is written beside its place and renamed.
"""

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmgrid.files.folder import PARTIAL_SUFFIX
from mmgrid.machine.unspoken import unspoken
from mmgrid.store.remote.errors import LOG_IN, RemoteError, clear_remote_errors

BLOCK_BYTES = 16 << 20
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"}  # no folders to make, and each file at one stroke
_CONTAINERS = {"abfs", "abfss", "az"}  # whose addresses are container@account
_FOLDERS = {"file", "local"}
_MOST_PARTS, _PARTS_AT_ONCE = 5000, 3  # S3 takes 10,000 of a file
_SECRETS = re.compile(r"(?<=//)[^/@]*@")

Count = Callable[[int], None]


class Place:
    """A place behind a URL.

    Args:
        url: such as `s3://bucket/folder`.

    Raises:
        RemoteError: it is no such address, or the package for it is not installed.

    Attributes:
        shown: the URL, without the password that it may hold.
    """

    def __init__(self, url: str) -> None:
        self.shown = unspoken(_SECRETS.sub("", url)).rstrip("/")
        protocol, mark, rest = url.partition("://")
        if not mark or not protocol or "::" in url:
            raise RemoteError(
                f"{self.shown}: is no address; write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"
            )
        if not rest.strip("/"):
            raise RemoteError(f"{self.shown}: names no bucket; write {protocol}://BUCKET/FOLDER")
        if protocol in _OBJECTS and "@" in rest.partition("/")[0] and protocol not in _CONTAINERS:
            raise RemoteError(
                f"{self.shown}: holds a name or a password, which buckets do not take from an address; {LOG_IN}"
            )
        if {".", ".."} & set(rest.split("/")):
            raise RemoteError(f"{self.shown}: contains . or ..; write the address out")
        self._protocol, self._is_objects = protocol, protocol in _OBJECTS
        self._system: Any
        self._system, root = _opened(url, protocol, self.shown)
        self._root = root.rstrip("/")

    def listing(self) -> dict[str, int]:
        """Path → size in bytes of all files."""
        with clear_remote_errors(self.shown):
            self._system.invalidate_cache()
            try:
                found = self._system.find(self._root, detail=True)
            except FileNotFoundError:
                if self._is_objects:
                    self._system.ls(self._root.partition("/")[0])  # raises where there is no such bucket
                return {}
        start = f"{self._root}/"
        return {
            path.removeprefix(start): int(about["size"] or 0)
            for path, about in found.items()
            if path.startswith(start) and about.get("type", "file") == "file"
        }

    def read(self, path: str, start: int, end: int) -> bytes:
        """A part of a file, or less of it where the file ends before.

        Raises:
            FileNotFoundError: it is not there.
        """
        with clear_remote_errors(self.shown, FileNotFoundError):
            return bytes(self._system.cat_file(self._path(path), start=start, end=end))

    def put(self, file: Path, path: str, count: Count) -> None:
        """Write a file, over one that may be there.

        count: called with the number of bytes that were sent since the last call; what it raises ends the sending.
        """
        from fsspec.callbacks import Callback

        class Sent(Callback):
            def relative_update(self, inc: int = 1) -> None:
                super().relative_update(inc)
                count(inc)

        sent = Sent()
        with clear_remote_errors(self.shown):
            with self._replacing(path) as target:
                self._system.put_file(str(file), target, callback=sent, **self._parts(file))
        count(file.stat().st_size - sent.value)  # not every file system tells

    def _parts(self, file: Path) -> dict[str, int]:
        """How s3fs sends a large file: it would hold 500 MB of each."""
        if self._protocol not in ("s3", "s3a"):
            return {}
        return {"chunksize": max(BLOCK_BYTES, file.stat().st_size // _MOST_PARTS), "max_concurrency": _PARTS_AT_ONCE}

    def write(self, path: str, data: bytes) -> None:
        """Write a small file, over one that may be there."""
        with clear_remote_errors(self.shown):
            with self._replacing(path) as target:
                self._system.pipe_file(target, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a small file, unless it is there; whether it was written.

        Of two that call it at once, one gets True, where the store can tell (S3, Google Cloud and folders can).
        """
        with clear_remote_errors(self.shown):
            try:
                if self._protocol in _FOLDERS:
                    with self._beside(path) as partial:
                        self._system.pipe_file(partial, data)
                        Path(self._path(path)).hardlink_to(partial)
                elif self._is_objects:
                    self._system.pipe_file(self._path(path), data, mode="create")
                else:
                    self._make_folder(path)
                    with self._system.open(self._path(path), "xb") as stream:
                        stream.write(data)
            except FileExistsError:
                return False
            return True

    @contextlib.contextmanager
    def _replacing(self, path: str) -> Iterator[str]:
        """Where to write a file, so that it appears at one stroke at the end."""
        if self._is_objects:
            yield self._path(path)
            return
        with self._beside(path) as partial:
            yield partial
            self._system.mv(partial, self._path(path))

    @contextlib.contextmanager
    def _beside(self, path: str) -> Iterator[str]:
        """A place beside that of a file, which is empty at the end."""
        self._make_folder(path)
        folder, _, name = self._path(path).rpartition("/")
        partial = f"{folder}/.{name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}"
        try:
            yield partial
        finally:
            with contextlib.suppress(Exception):
                self._system.rm_file(partial)

    def _make_folder(self, path: str) -> None:
        if not self._is_objects:
            with contextlib.suppress(NotImplementedError):
                self._system.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"


def _opened(url: str, protocol: str, shown: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there."""
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations, registry

    if protocol not in known_implementations and protocol not in registry:
        raise RemoteError(f"{shown}: {protocol}:// is not known; use s3://, gs:// or another protocol of fsspec")
    try:
        with clear_remote_errors(shown, ImportError):
            return url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f'`pip install "mmgrid[{extra}]"`' if extra else str(error)
        raise RemoteError(f"{shown}: the package for {protocol}:// is not installed: {remedy}") from error
