"""What a merge reads: named tensors in files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from mmgrid.merging.models.tensors import TensorInfo


class Source(Protocol):
    """Named tensors in files."""

    @property
    def path(self) -> Path:
        """The folder, or the file."""
        ...

    @property
    def files(self) -> list[Path]:
        """All files that the tensors depend on."""
        ...

    @property
    def stamps(self) -> list[tuple[int, int, int]]:
        """The state of the files, which changes when somebody writes to them."""
        ...

    @property
    def companions(self) -> Path:
        """The folder of config and tokenizer."""
        ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def __contains__(self, name: object, /) -> bool: ...

    def info(self, name: str) -> TensorInfo: ...

    def read(self, name: str, start: int, stop: int) -> np.ndarray: ...

    def check_unchanged(self) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
