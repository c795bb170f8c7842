"""A source that is seen through another one: some of its tensors are hidden, computed, or have a second name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.passing import Followed, PassingDigest
from mmgrid.merging.models.tensors import TensorInfo

if TYPE_CHECKING:
    from mmgrid.merging.models.source import Source


class SourceView(Closing):
    """A source without the tensors `hidden`, and with tensors that are others under another name.

    Args:
        inner: the source. Closing the view closes it.
        hidden: names that it has and the view lacks.
        copies: new name → the name in `inner`.
    """

    def __init__(self, inner: Source, hidden: Collection[str] = (), copies: Mapping[str, str] | None = None) -> None:
        self.inner = inner
        self._hidden = frozenset(hidden)
        self._copies = dict(copies or {})

    @property
    def path(self) -> Path:
        return self.inner.path

    @property
    def files(self) -> list[Path]:
        return self.inner.files

    @property
    def stamps(self) -> list[tuple[int, int, int]]:
        return self.inner.stamps

    @property
    def companions(self) -> Path:
        return self.inner.companions

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self.inner if name not in self._hidden)
        yield from self._copies

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._copies or (name in self.inner and name not in self._hidden)

    def info(self, name: str) -> TensorInfo:
        return self.inner.info(self._copies.get(name, name))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        return self.inner.read(self._copies.get(name, name), start, stop)

    def follow(self, digest_of: Callable[[Path], PassingDigest | None]) -> None:
        if isinstance(self.inner, Followed):
            self.inner.follow(digest_of)

    def check_unchanged(self) -> None:
        self.inner.check_unchanged()

    def close(self) -> None:
        self.inner.close()
