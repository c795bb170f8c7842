"""Reads the tensors of a safetensors folder run by run. No torch.

Files are read into buffers and not memory-mapped, so that the memory of a merge is known, and a file that is truncated
during the merge causes an error and not a crash. Sources are opened for reading only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mmgrid.machine.open_files import OPEN_FILES
from mmgrid.machine.positioned import read_at
from mmgrid.merging.arrays.buffers import at_end_of_frame, take
from mmgrid.merging.arrays.floats import STORAGE, width
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.header import TensorEntry, read_header
from mmgrid.merging.models.passing import PassingDigest
from mmgrid.merging.models.stamps import check_stamp, stamp_of
from mmgrid.merging.models.weight_files import INDEX_FILE, weight_files


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
        self.files, indexed = weight_files(self.path)
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
