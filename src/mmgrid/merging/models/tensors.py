"""Reads the tensors of a safetensors folder run by run, and writes a safetensors file run by run. No torch.

Files are read into buffers and not memory-mapped, so that the memory of a merge is known, and a file that is truncated
during the merge causes an error and not a crash. Sources are opened for reading only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from mmgrid.files import inside
from mmgrid.files.foreign import MALFORMED
from mmgrid.machine.open_files import OPEN_FILES
from mmgrid.machine.positioned import open_to_write, read_at, write_at
from mmgrid.merging.arrays.buffers import at_end_of_frame, take
from mmgrid.merging.arrays.floats import STORAGE, width
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.file_kinds import impostor
from mmgrid.merging.models.flusher import FLUSHED_BYTES, Flusher
from mmgrid.merging.models.header import TensorEntry, plan_header, read_header
from mmgrid.merging.models.passing import PassingDigest
from mmgrid.merging.models.written import WrittenDigest

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_SHARD = re.compile(r"-\d{5}-of-(?!00001\b)\d{5}\.safetensors$")


@dataclass(frozen=True)
class TensorInfo:
    """Type and shape of a tensor; types by torch's name.

    `native` is the type in which the model is stored, if it differs from the type of the values that are read.
    """

    dtype: str
    shape: tuple[int, ...]
    native: str | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * width(self.dtype)


class Tensors(Protocol):
    """Named tensors that can be read run by run: a folder, or a state dict."""

    def __iter__(self) -> Iterator[str]: ...

    def __contains__(self, name: object, /) -> bool: ...

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor, without reading it."""
        ...

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements [start, stop) in row-major order, as `floats.STORAGE` holds them. Not to be changed."""
        ...


class TensorFolder(Closing):
    """The tensors of a model folder, as `Tensors`; each read reads from the disk. Threads may share it.

    Use as a context manager, or `close` it.

    Args:
        path: a Hugging Face folder (one file, or shards with their index), a folder with a single safetensors
            file under any name, or such a file.

    Raises:
        MergeError: weights are missing or incomplete.
        OSError: they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.files, indexed = _weight_files(self.path)
        self.stamps = [stamp_of(file) for file in self.files]
        self._entries: dict[str, tuple[int, TensorEntry]] = {}
        for number, file in enumerate(self.files):
            for name, entry in read_header(file).items():
                if name in self._entries:
                    other = self.files[self._entries[name][0]].name
                    raise MergeError(f"{file}: tensor {name!r} is also in {other}; it must be in one shard")
                self._entries[name] = (number, entry)
        absent = indexed - self._entries.keys()
        if absent:
            raise MergeError(f"{self.path / INDEX_FILE}: names tensors that no shard holds: {listing(absent)}")
        self._digests: dict[int, PassingDigest] = {}

    @property
    def companions(self) -> Path:
        """The folder of config and tokenizer."""
        return self.path

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor, without reading it."""
        entry = self._entries[name][1]
        return TensorInfo(entry.dtype, entry.shape)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements [start, stop) of a tensor in row-major order, stored as in `floats.STORAGE`."""
        number, entry = self._entries[name]
        each = width(entry.dtype)
        raw = take((stop - start) * each, np.uint8)
        first = entry.start + start * each
        digest = self._digests.get(number)
        if digest is None:
            self._fill(raw.data, number, first, name)
        else:
            self._fill_and_add(digest, raw.data, number, first, name)
        return raw.view(STORAGE[entry.dtype])

    def _fill_and_add(self, digest: PassingDigest, view: memoryview, number: int, first: int, name: str) -> None:
        stop = first + len(view)
        digest.announce(first, stop)
        try:
            self._fill(view, number, first, name)
        except BaseException:
            digest.withdraw(first, stop)
            raise
        if digest.add(first, view, wait=False):
            return
        if not at_end_of_frame(lambda wait: digest.add(first, view, wait=wait)):
            digest.withdraw(first, stop)

    def _fill(self, view: memoryview, number: int, first: int, name: str) -> None:
        done = 0
        while done < len(view):
            with OPEN_FILES.reading(self, number, self.files[number]) as descriptor:
                got = read_at(descriptor, view[done:], first + done)
            if not got:
                raise MergeError(f"{self.files[number]}: became shorter while {name!r} was read from it")
            done += got

    def follow(self, digest_of: Callable[[Path], PassingDigest | None]) -> None:
        """From now on, add what is read of each file to its digest, if it has one."""
        digests = {number: digest_of(file) for number, file in enumerate(self.files)}
        self._digests = {number: digest for number, digest in digests.items() if digest is not None}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def check_unchanged(self) -> None:
        """Check that nobody has written to the files since they were opened.

        Raises:
            MergeError: somebody has.
        """
        for file, stamp in zip(self.files, self.stamps, strict=True):
            check_stamp(file, stamp)

    def close(self) -> None:
        """Close the files. A later read opens them again."""
        OPEN_FILES.close(self)


class TensorWriter:
    """Writes a new safetensors file; any thread may write runs in any order, each at its final place.

    Args:
        path: the new file; must not exist, except with `resume`.
        tensors: name → type and shape.
        resume: continue a file that another writer for the same tensors did not finish.
        twins: tensor → the one whose values it has, too; it is written with it.
        digest: take this kind of digest of the file, one of `mmgrid.files.DIGEST_KINDS`.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, TensorInfo],
        *,
        resume: bool = False,
        twins: Mapping[str, str] | None = None,
        digest: str | None = None,
    ) -> None:
        described = {name: (info.dtype, info.shape) for name, info in tensors.items()}
        self._flusher: Flusher | None = None
        self._digest: WrittenDigest | None = None
        self._twins: dict[str, list[str]] = {}
        for twin, first in (twins or {}).items():
            self._twins.setdefault(first, []).append(twin)
        # transformers refuses files that do not name the framework.
        header, self._entries = plan_header(described, {"format": "pt"})
        self._descriptor = open_to_write(path, new=not resume)
        try:
            _reserve(self._descriptor, max((entry.end for entry in self._entries.values()), default=len(header)))
            self._digest = WrittenDigest(path, digest) if digest is not None else None
            self._put(memoryview(header), 0)
            if sum(entry.end - entry.start for entry in self._entries.values()) >= 2 * FLUSHED_BYTES:
                self._flusher = Flusher(self._descriptor)
        except BaseException:
            self._close_file()
            raise

    def write(self, name: str, start: int, stored: np.ndarray) -> None:
        """Write a run of elements from element `start` on; its type must be the tensor's."""
        entry = self._entries[name]
        assert stored.dtype == STORAGE[entry.dtype], (name, stored.dtype, entry.dtype)
        raw = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
        for place in (entry, *(self._entries[twin] for twin in self._twins.get(name, ()))):
            self._put(raw.data, place.start + start * stored.itemsize)

    def _put(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            done += write_at(self._descriptor, view[done:], offset + done)
        if self._digest is not None:
            self._digest.add(offset, view)
        if self._flusher is not None:
            self._flusher.add(len(view))

    def digest(self) -> str | None:
        """The digest of the file, once all has been written; None if none is taken."""
        return None if self._digest is None else self._digest.finish()

    def close(self) -> None:
        """Close the file. Some of its bytes may not be on the disk yet.

        Raises:
            OSError: a flush failed.
        """
        try:
            if self._flusher is not None:
                self._flusher.end()
        finally:
            self._close_file()

    def _close_file(self) -> None:
        try:
            os.close(self._descriptor)
        finally:
            if self._digest is not None:
                self._digest.close()

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():  # the first error counts
            self.close()


def _weight_files(path: Path) -> tuple[list[Path], set[str]]:
    """The weight files of a folder, found in the same order as by transformers, and the tensors that an index names."""
    if path.is_file():
        return [path], set()
    if not path.is_dir():
        raise MergeError(f"{path}: does not exist. A source is a folder on this machine; download the model first")
    if (path / WEIGHTS_FILE).exists():
        return [path / WEIGHTS_FILE], set()
    if (path / INDEX_FILE).exists():
        return _shards(path)
    if (path / "adapter_config.json").exists():
        raise MergeError(
            f"{path}: is a LoRA adapter, not a model. Merge it into its base first (peft: "
            f"`PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)`)"
        )
    if (path / "family.json").exists() or (path / "member.json").exists():
        raise MergeError(
            f"{path}: holds a family of models; write the checkpoint first: mmgrid expand {path} -o FOLDER"
        )
    found = sorted(path.glob("*.safetensors"))
    if shards := [file.name for file in found if _SHARD.search(file.name)]:
        raise MergeError(
            f"{path}: holds {listing(shards)}, which are parts of a model, and no {INDEX_FILE}, which says whether that is "
            "all of them; fetch it, too"
        )
    if len(found) == 1:
        return found, set()
    if found:
        names = listing(file.name for file in found)
        raise MergeError(f"{path}: holds {names} and neither {WEIGHTS_FILE} nor {INDEX_FILE}: name one file")
    pickled = sorted([*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")])
    hint = f" ({pickled[0].name} is pickled and never read: save the model as safetensors)" if pickled else ""
    if gguf := sorted(path.glob("*.gguf")):
        hint = f" ({gguf[0].name} is a GGUF file, which is quantised: name the model that it was made from)"
    below = [str(folder.relative_to(path)) for folder in _folders_with_models(path)]
    hint += f". Name a folder in it: {listing(below)}" if below else ""
    raise MergeError(f"{path}: contains no safetensors{hint}")


def _folders_with_models(path: Path) -> list[Path]:
    """Folders below that hold models or adapters: the checkpoints of a trainer, several adapters, the Hub's snapshots."""
    names = ("*.safetensors", "adapter_config.json", INDEX_FILE)
    return sorted(
        {file.parent for depth in ("*", "snapshots/*") for name in names for file in path.glob(f"{depth}/{name}")}
    )


def _shards(path: Path) -> tuple[list[Path], set[str]]:
    index = path / INDEX_FILE
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        shards = sorted({inside(path, shard, allow_links=True) for shard in places.values()})
    except MALFORMED as error:
        problem = impostor(index) or f"is not an index of shards ({error!r}); fetch the file again"
        raise MergeError(f"{index}: {problem}") from error
    absent = [shard.name for shard in shards if not _is_file(shard)]
    if absent or not shards:
        raise MergeError(f"{index}: shards are missing: {listing(absent) or 'it names none'}; fetch them again")
    return shards, set(places)


def _is_file(path: Path) -> bool:
    """Whether a path leads to a file; no for impossible paths, such as names of 300 characters."""
    try:
        return path.is_file()
    except OSError:
        return False


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


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the space at once, so that a full disk causes an error now and not after an hour."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise  # otherwise the file system has no such operation, and the file grows while it is written
