"""Lays out the token blocks of the result: which blocks it has, in which order, and from which rows they come."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from mmgrid.files import safe_segment
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.models.token_blocks import BACKBONE, BlockTable, TokenBlock
from mmgrid.patterns import fits

Action = Literal["merge", "keep", "keep_all", "append", "drop"]


class KeepAllOf(BaseModel):
    """As `keep_all`, of some sources only: where several of them have the same tokens, as phases of one domain have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_all: tuple[str, ...] = Field(min_length=1, description="names of sources")


def _form(rule: Any) -> str:
    return "word" if isinstance(rule, str) else "table"


BlockRule = Annotated[
    Annotated[Action, Tag("word")] | Annotated[KeepAllOf, Tag("table")],
    Discriminator(_form),
]
"""What `blocks` of a recipe may say of a block."""


@dataclass(frozen=True)
class OutputBlock:
    """A block of the result, merged or copied from rows of the sources.

    Attributes:
        block: its rows in the result, and the domain, digest, tokens and files of the owner's block.
        owner: the source whose block it is; for a merged block, the first source that has it.
        sources: name of each source that takes part → its first row there.
        base: its first row in the base; None if the base lacks it.
        owner_files: names of the block's files in the owner's folder, in the order of `block.files`.
    """

    block: TokenBlock
    action: Literal["merge", "keep"]
    owner: str
    sources: Mapping[str, int]
    base: int | None
    owner_files: tuple[str, ...] = ()


def lay_out(
    tables: Mapping[str, BlockTable], base: BlockTable | None, first: str, rules: Mapping[str, Action | KeepAllOf]
) -> tuple[OutputBlock, ...]:
    """The blocks of the result: those of the source `first` in its order, then those that the others append.

    Args:
        tables: name of the source → its blocks.
        rules: name of a block, or a pattern such as `books*` → action; the first pattern that fits counts. `merge`
            merges the rows of all sources; `keep` and `append` copy those of the first source that has the block;
            `keep_all` copies those of every source (or of those that it names), and calls all but the first
            `NAME@SOURCE`; `drop` leaves the block out. Without a rule the backbone is merged if all sources have it,
            blocks of one name that declare different domains are all kept, and other blocks are kept from the first
            source that has them.

    Raises:
        MergeError: a block is to be merged and a source lacks it, or a source or the base has it in another size; two
            blocks of the result have the same name or share a token string.
    """
    named = {name for rule in rules.values() if isinstance(rule, KeepAllOf) for name in rule.keep_all}
    if unknown := sorted(named - tables.keys()):
        raise MergeError(f"blocks: keep_all names {listing(unknown)}; the sources are {listing(tables)}")
    held = {source: {block.name: block for block in table.blocks} for source, table in tables.items()}
    layout = _Layout({block.name: block for block in base.blocks} if base else {})
    placed: set[str] = set()
    for source in (first, *sorted(set(tables) - {first})):
        for block in tables[source].blocks:
            having = {other: blocks[block.name] for other, blocks in held.items() if block.name in blocks}
            action = _action(block.name, having, rules, n_sources=len(tables), in_first=first in having)
            if isinstance(action, KeepAllOf):
                if source not in action.keep_all:
                    continue
                action = "keep_all"
            if block.name in placed:
                if action == "keep_all":
                    layout.add(f"{block.name}@{source}", "keep", source, {source: block}, in_base=False)
                continue
            placed.add(block.name)
            if action == "merge":
                if len(having) < len(tables):
                    lacking = listing(set(tables) - set(having))
                    raise MergeError(
                        f"block {block.name!r}: cannot be merged, {lacking} lacks it; keep, append or drop it"
                    )
                layout.add(block.name, "merge", source, having)
            elif action != "drop":
                layout.add(block.name, "keep", source, {source: block})
    return _with_distinct_files(layout.blocks)


def _with_distinct_files(blocks: Sequence[OutputBlock]) -> tuple[OutputBlock, ...]:
    """The blocks; files that share a name get the name of their domain: `codes-books.safetensors`."""
    counts = Counter(name for laid in blocks for name in laid.block.files)

    def distinct(name: str, block: TokenBlock) -> str:
        path = PurePath(name)
        return f"{path.stem}-{safe_segment(block.domain or block.name)}{path.suffix}" if counts[name] > 1 else name

    return tuple(
        replace(
            laid,
            owner_files=tuple(laid.block.files),
            block=replace(laid.block, files=tuple(distinct(name, laid.block) for name in laid.block.files)),
        )
        for laid in blocks
    )


class _Layout:
    """The blocks of the result laid out so far."""

    def __init__(self, base: Mapping[str, TokenBlock]) -> None:
        self.blocks: list[OutputBlock] = []
        self._base = base
        self._block_of_token: dict[str, str] = {}

    def add(
        self,
        name: str,
        action: Literal["merge", "keep"],
        owner: str,
        sources: Mapping[str, TokenBlock],
        *,
        in_base: bool = True,
    ) -> None:
        """Add a block behind the others; `in_base`: whether the base may have rows for it."""
        if any(laid.block.name == name for laid in self.blocks):
            raise MergeError(f"two blocks of the result would be called {name!r}; drop one, or rename the source")
        sizes = {block.size for block in sources.values()}
        if len(sizes) > 1:
            raise MergeError(f"block {name!r}: has {' and '.join(map(str, sorted(sizes)))} rows in different sources")
        size = sizes.pop()
        in_base_block = self._base.get(name) if in_base else None
        if in_base_block is not None and in_base_block.size != size:
            raise MergeError(f"block {name!r}: has {in_base_block.size} rows in the base, and {size} in the sources")
        self._check_tokens(name, sources[owner])
        start = rows_of(self.blocks)
        block = replace(sources[owner], name=name, start=start, stop=start + size)
        starts = {source: own.start for source, own in sources.items()}
        base_start = None if in_base_block is None else in_base_block.start
        self.blocks.append(OutputBlock(block, action, owner, starts, base_start))

    def _check_tokens(self, name: str, block: TokenBlock) -> None:
        for token in block.tokens:
            other = self._block_of_token.setdefault(token, name)
            if other != name:
                raise MergeError(
                    f"blocks {other!r} and {name!r} of the result both have the token {token!r}; drop one of them, or "
                    "keep the block of one source only"
                )


def _rule_for(name: str, rules: Mapping[str, Action | KeepAllOf]) -> Action | KeepAllOf | None:
    return next((action for pattern, action in rules.items() if fits(name, (pattern,))), None)


def left_out(
    tables: Mapping[str, BlockTable], sources: Iterable[str], rules: Mapping[str, Action | KeepAllOf]
) -> list[str]:
    """A note for each block that none of the sources has which its `keep_all` names, so that the result lacks it.

    Args:
        tables: the tables of those sources that declare one; another source has the backbone alone.
        sources: names of all sources.
    """
    having: dict[str, list[str]] = {}
    for source in sources:
        names = [block.name for block in tables[source].blocks] if source in tables else [BACKBONE]
        for name in names:
            having.setdefault(name, []).append(source)
    return [
        f"block {name!r}: is left out; it is in {listing(owners)}, and keep_all names {listing(rule.keep_all)}"
        for name, owners in having.items()
        if isinstance(rule := _rule_for(name, rules), KeepAllOf) and not {*owners} & {*rule.keep_all}
    ]


def _action(
    name: str,
    having: Mapping[str, TokenBlock],
    rules: Mapping[str, Action | KeepAllOf],
    *,
    n_sources: int,
    in_first: bool,
) -> Action | KeepAllOf:
    if (ruled := _rule_for(name, rules)) is not None:
        return ruled
    if name == BACKBONE and len(having) == n_sources:
        return "merge"
    domains = {block.domain for block in having.values()} - {None}
    if name != BACKBONE and len(domains) > 1:
        return "keep_all"
    return "keep" if in_first else "append"


def lay_out_sources(
    tables: Mapping[str, BlockTable],
    sources: Mapping[str, Tensors],
    base: Tensors | None,
    base_table: BlockTable | None,
    first: str,
    rules: Mapping[str, Action | KeepAllOf],
) -> tuple[tuple[OutputBlock, ...], frozenset[str]]:
    """The blocks of the result, and the names of the tensors that they describe.

    Args:
        tables: the tables of those sources that declare one; all rows of another source belong to the backbone.
        first, rules: as for `lay_out`.

    Raises:
        MergeError: tables name different tensors or do not fit their model, or as for `lay_out`.
    """
    tensors = next(iter(tables.values())).tensors

    def table_of(model: Tensors, declared: BlockTable | None, where: str) -> BlockTable:
        shape = model.info(tensors[0]).shape if tensors[0] in model else ()
        table = declared or BlockTable(tensors, (TokenBlock(BACKBONE, 0, shape[0] if shape else 0),))
        if set(table.tensors) != set(tensors):
            raise MergeError(
                f"{where}: its blocks describe rows of {listing(table.tensors)}, those of others rows of {listing(tensors)}"
            )
        table.check(model, where)
        return table

    all_tables = {name: table_of(source, tables.get(name), f"source {name!r}") for name, source in sources.items()}
    table_of_base = None if base is None else table_of(base, base_table, "the base")
    return lay_out(all_tables, table_of_base, first, rules), frozenset(tensors)


def rows_of(blocks: Sequence[OutputBlock]) -> int:
    """The number of rows of the result."""
    return blocks[-1].block.stop if blocks else 0
