"""Token rows in named blocks: the backbone's, and one for each domain and codebook.

Rows of two models belong together only where their blocks have one name: the same token string of two codebooks
means two things, and averaging them means nothing. A model's `mmgrid.json` names its blocks:

    "blocks": {"tensors": ["model.embed_tokens.weight"],
               "rows": [{"name": "backbone", "start": 0, "stop": 8192}, {"name": "books", "start": 8192, "stop": 9216}]}
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.tensors import TensorInfo, Tensors

Action = Literal["merge", "keep", "append", "drop"]
BACKBONE = "backbone"


@dataclass(frozen=True)
class Block:
    """Rows [start, stop) of a vocabulary table."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class BlockTable:
    """The blocks of one model, and the tensors whose rows they are."""

    tensors: tuple[str, ...]
    blocks: tuple[Block, ...]

    @classmethod
    def read(cls, folder: Path) -> BlockTable | None:
        """What a model folder's `mmgrid.json` says; None if it names no blocks.

        Raises:
            MergeError: it names them wrongly.
        """
        file = folder / "mmgrid.json"
        if not file.is_file():
            return None
        try:
            facts = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise MergeError(f"{file}: is not JSON: {error}") from error
        given = facts.get("blocks") if isinstance(facts, dict) else None
        return None if given is None else cls.of(given, str(file))

    @classmethod
    def of(cls, given: Any, where: str) -> BlockTable:
        """A table from its JSON form."""
        try:
            blocks = tuple(Block(str(row["name"]), int(row["start"]), int(row["stop"])) for row in given["rows"])
            names = given["tensors"]
            if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
                raise ValueError(f"tensors: {names!r}")
            table = cls(tuple(names), blocks)
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise MergeError(f"{where}: blocks need tensors, and rows with name, start and stop ({error!r})") from error
        end = 0
        for block in blocks:
            if block.start != end or block.stop < block.start:
                raise MergeError(f"{where}: block {block.name!r} must start at row {end}, where the one before it ends")
            end = block.stop
        if len({block.name for block in blocks}) < len(blocks):
            raise MergeError(f"{where}: two blocks have one name")
        return table

    @property
    def rows(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    def check(self, model: Tensors, where: str) -> None:
        """See that a model's tensors have the rows that the blocks speak of.

        Raises:
            MergeError: it lacks one, or one has other rows.
        """
        for name in self.tensors:
            if name not in model:
                raise MergeError(f"{where}: its token rows should be those of {name}, which it lacks")
            shape = model.info(name).shape
            if not shape or shape[0] != self.rows:
                has = f"has {shape[0]}" if shape else "has none"
                raise MergeError(f"{where}: its blocks have {self.rows} rows, and tensor {name} {has}")

    def as_json(self) -> dict[str, Any]:
        return {"tensors": list(self.tensors), "rows": [vars(block) for block in self.blocks]}


class BackboneRows:
    """A model without the token rows behind its backbone's, as `Tensors`."""

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


@dataclass(frozen=True)
class OutputBlock:
    """Rows of the result: merged from, or copied of, the rows where each of `sources` has them."""

    block: Block
    action: Literal["merge", "keep"]
    sources: Mapping[str, int]  # first row in each source that takes part
    base: int | None  # first row in the base; None where the base lacks them


def lay_out(
    tables: Mapping[str, BlockTable], base: BlockTable | None, first: str, rules: Mapping[str, Action]
) -> tuple[OutputBlock, ...]:
    """The blocks of the result: those of the source `first` in its order, then what the others append.

    `rules` maps block names (or patterns such as `books*`) to what becomes of them; the first that fits counts.
    Without one, a backbone that all have is merged, a block of the first source kept, one of another appended.

    Raises:
        MergeError: a block is to be merged that a source lacks, or a source or the base has in another size.
    """
    held = {name: {block.name: block for block in table.blocks} for name, table in tables.items()}
    names = [block.name for block in tables[first].blocks]
    names += [block.name for name in sorted(tables) for block in tables[name].blocks if block.name not in held[first]]
    laid, end = [], 0
    for name in dict.fromkeys(names):
        having = {source: blocks[name] for source, blocks in held.items() if name in blocks}
        action = _action(name, rules, everywhere=len(having) == len(tables), in_first=first in having)
        if action == "drop":
            continue
        if action != "merge":
            owner = first if first in having else min(having)
            having = {owner: having[owner]}
        elif len(having) < len(tables):
            lacking = listing(set(tables) - set(having))
            raise MergeError(f"block {name!r}: cannot be merged, {lacking} lacks it; keep, append or drop it")
        sizes = {block.stop - block.start for block in having.values()}
        if len(sizes) > 1:
            raise MergeError(f"block {name!r}: has {' and '.join(map(str, sorted(sizes)))} rows in different sources")
        size = sizes.pop()
        below = {block.name: block for block in base.blocks}.get(name) if base else None
        if below is not None and below.stop - below.start != size:
            have = below.stop - below.start
            raise MergeError(f"block {name!r}: has {have} rows in the base, and {size} in the sources")
        starts = {source: block.start for source, block in having.items()}
        kind = "merge" if action == "merge" else "keep"
        laid.append(OutputBlock(Block(name, end, end + size), kind, starts, below.start if below else None))
        end += size
    return tuple(laid)


def _action(name: str, rules: Mapping[str, Action], *, everywhere: bool, in_first: bool) -> Action:
    for pattern, action in rules.items():
        if fnmatch.fnmatchcase(name, pattern):
            return action
    if name == BACKBONE and everywhere:
        return "merge"
    return "keep" if in_first else "append"


def lay_out_sources(
    tables: Mapping[str, BlockTable],
    sources: Mapping[str, Tensors],
    base: Tensors | None,
    base_table: BlockTable | None,
    first: str,
    rules: Mapping[str, Action],
) -> tuple[tuple[OutputBlock, ...], frozenset[str]]:
    """The blocks of the result, and the tensors whose rows they are, from the tables that some of the models have.

    A model without a table has backbone rows only.

    Raises:
        MergeError: tables name different tensors, or do not fit their model, or see `lay_out`.
    """
    tensors = next(iter(tables.values())).tensors

    def table_of(model: Tensors, named: BlockTable | None, where: str) -> BlockTable:
        shape = model.info(tensors[0]).shape if tensors[0] in model else ()
        table = named or BlockTable(tensors, (Block(BACKBONE, 0, shape[0] if shape else 0),))
        if set(table.tensors) != set(tensors):
            raise MergeError(f"{where}: its blocks are rows of {listing(table.tensors)}, others' of {listing(tensors)}")
        table.check(model, where)
        return table

    full = {name: table_of(source, tables.get(name), f"source {name!r}") for name, source in sources.items()}
    below = None if base is None else table_of(base, base_table, "the base")
    return lay_out(full, below, first, rules), frozenset(tensors)


def rows_of(laid: Sequence[OutputBlock]) -> int:
    """Rows of the result."""
    return laid[-1].block.stop if laid else 0
