"""A source of a merge as named tensors: a model's folder, or a LoRA adapter with the model it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from mmgrid.merging.models.lora import ADAPTER_CONFIG, LoraFolder, model_under
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo


class Source(Protocol):
    """Tensors that lie in files."""

    @property
    def path(self) -> Path:
        """The folder, or the file."""
        ...

    @property
    def files(self) -> list[Path]:
        """All that the tensors depend on."""
        ...

    @property
    def stamps(self) -> list[tuple[int, int, int]]:
        """What changes when somebody writes to the files."""
        ...

    @property
    def companions(self) -> Path:
        """Where config and tokenizer are."""
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
    """Open a model's folder, or an adapter's as the model it makes.

    Args:
        path: a folder or a safetensors file.
        onto: for an adapter: the model that it belongs to.
        base: for an adapter for which no model is named, and whose own configuration names none on this machine.

    Raises:
        MergeError: there are no such weights, or they are not whole; an adapter of another kind.
    """
    if not is_adapter(path):
        return TensorFolder(path)
    return LoraFolder(path, model_under(path, onto, base))
