"""Named blocks of token rows: the backbone's block, and one for each domain and codebook.

Rows of two models belong together only if their blocks have the same name: the same token string means different
things in two codebooks, so their average means nothing. A model declares its blocks in `mmgrid.json`:

    "blocks": {"tensors": ["model.embed_tokens.weight"],
               "rows": [{"name": "backbone", "start": 0, "stop": 8192}, {"name": "books", "start": 8192, "stop": 9216}]}

A row entry may also hold the block's `domain`, the `digest` of its codebook, its `tokens` (the string of each row) and
its `files` (names of files in the model's folder that belong to the block).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.declaration import MMGRID_FILE, read_declaration
from mmgrid.merging.models.tensors import TensorInfo, Tensors

BACKBONE = "backbone"


@dataclass(frozen=True)
class TokenBlock:
    """Rows [start, stop) of a vocabulary table.

    Attributes:
        domain: the domain whose items the tokens stand for.
        digest: of the codebook.
        tokens: the token string of each row; empty if they are not declared.
        files: names of files in the model's folder that belong to the block.
    """

    name: str
    start: int
    stop: int
    domain: str | None = None
    digest: str | None = None
    tokens: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """A block from its JSON form; raises TypeError, KeyError or ValueError if it has another form."""
        block = cls(
            str(entry["name"]),
            int(entry["start"]),
            int(entry["stop"]),
            _text(entry, "domain"),
            _text(entry, "digest"),
            _texts(entry, "tokens"),
            _texts(entry, "files"),
        )
        if block.tokens and len(block.tokens) != block.size:
            raise ValueError(f"block {block.name!r} has {block.size} rows and {len(block.tokens)} tokens")
        for file in block.files:
            if file in ("", ".", "..") or set(file) & set("/\\\0"):
                raise ValueError(f"block {block.name!r}: {file!r} is not the name of a file in the folder")
        return block

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    def as_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"name": self.name, "start": self.start, "stop": self.stop}
        value |= {key: text for key in ("domain", "digest") if (text := getattr(self, key)) is not None}
        return value | {key: list(texts) for key in ("tokens", "files") if (texts := getattr(self, key))}


@dataclass(frozen=True)
class BlockTable:
    """The blocks of one model, and the tensors whose rows they describe."""

    tensors: tuple[str, ...]
    blocks: tuple[TokenBlock, ...]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The blocks that a model's folder declares in `mmgrid.json`; None if it declares none.

        Raises:
            MergeError: the declaration is malformed.
        """
        value = (read_declaration(folder) or {}).get("blocks")
        return None if value is None else cls.of(value, str(folder / MMGRID_FILE))

    @classmethod
    def of(cls, value: Any, where: str) -> Self:
        """A table from its JSON form.

        Raises:
            MergeError: it is malformed; the message begins with `where`.
        """
        try:
            blocks = tuple(TokenBlock.of(entry) for entry in value["rows"])
            names = value["tensors"]
            if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
                raise ValueError(f"tensors: {names!r}")
            table = cls(tuple(names), blocks)
        except MALFORMED as error:
            raise MergeError(f"{where}: blocks need tensors, and rows with name, start and stop ({error!r})") from error
        end = 0
        for block in blocks:
            if block.start != end or block.stop < block.start:
                raise MergeError(f"{where}: block {block.name!r} must start at row {end}, where the one before it ends")
            end = block.stop
        if len({block.name for block in blocks}) < len(blocks):
            raise MergeError(f"{where}: two blocks have the same name")
        return table

    @property
    def rows(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def files(self) -> frozenset[str]:
        """The names of the files of all blocks."""
        return frozenset(file for block in self.blocks for file in block.files)

    def check(self, model: Tensors, where: str) -> None:
        """Check that a model's tensors have as many rows as the table.

        Raises:
            MergeError: the model lacks a tensor, or the tensor has another number of rows.
        """
        for name in self.tensors:
            if name not in model:
                raise MergeError(f"{where}: its blocks describe rows of {name}, which it lacks")
            shape = model.info(name).shape
            if not shape or shape[0] != self.rows:
                has = f"has {shape[0]}" if shape else "has none"
                raise MergeError(f"{where}: its blocks have {self.rows} rows, and tensor {name} {has}")

    def as_json(self) -> dict[str, Any]:
        return {"tensors": list(self.tensors), "rows": [block.as_json() for block in self.blocks]}


class BackboneRows:
    """A model's tensors without the token rows behind those of the backbone, as `Tensors`."""

    def __init__(self, tensors: Tensors, table: BlockTable) -> None:
        self._tensors = tensors
        self._in_blocks = frozenset(table.tensors)
        self._rows = next(block.stop for block in table.blocks if block.name == BACKBONE)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def info(self, name: str) -> TensorInfo:
        info = self._tensors.info(name)
        return replace(info, shape=(self._rows, *info.shape[1:])) if name in self._in_blocks else info

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._tensors.read(name, start, stop)


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key}: {value!r}")
    return value


def _texts(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key) or []
    if not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
        raise ValueError(f"{key}: {value!r}")
    return tuple(value)
