"""Finds a source of a merge, and opens it as named tensors: a model's folder, or a LoRA adapter on its model."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from mmgrid.merging.models.hub import found
from mmgrid.merging.models.lora import ADAPTER_CONFIG, LoraFolder, model_under
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo

__all__ = ["Source", "found", "is_adapter", "open_source"]


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

    def __contains__(self, name: object, /) -> bool: ...

    def info(self, name: str) -> TensorInfo: ...

    def read(self, name: str, start: int, stop: int) -> np.ndarray: ...

    def check_unchanged(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return (path / ADAPTER_CONFIG).is_file() and not any(
        (path / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )


def open_source(path: Path, onto: Path | None = None, base: Path | None = None) -> Source:
    """Open a model's folder, or an adapter's folder as the model with the adapter merged into it.

    Args:
        path: a folder or a safetensors file.
        onto: for an adapter: the folder of its model.
        base: for an adapter: its model, if neither `onto` nor its configuration names a folder.

    Raises:
        MergeError: weights are missing or incomplete, or the adapter is of another kind.
    """
    if not is_adapter(path):
        return TensorFolder(path)
    return LoraFolder(path, model_under(path, onto, base))
