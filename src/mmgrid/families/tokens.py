"""Where a domain's token rows are in the shared model, block by block.

A vocabulary with blocks of its own (the codes of a domain's items) has other rows than the shared model, which may hold
the blocks of all domains, or none. The backbone's rows are changed by the part; a domain's own block is taken from the
shared model if it is there unchanged, and else stored with the domain.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmgrid.merging.models.family.file import RowsEntry, TokenRows
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.models.token_blocks import BACKBONE, BlockTable


def token_rows(target: Source, reference: Source, base: Source | None) -> TokenRows | None:
    """The rows of the domain's token tables; None if it declares no blocks, or has those of the reference."""
    own = BlockTable.read(target.companions)
    if own is None:
        return None
    there = BlockTable.read(reference.companions)
    if there is not None and _layout(there) == _layout(own):
        return None
    below = None if base is None else BlockTable.read(base.companions)
    tensors = tuple(name for name in own.tensors if name in target and _can_refer(name, target, reference, base))
    if not tensors:
        return None
    starts, starts_in_base = _starts(there, reference, tensors), _starts(below, base, tensors)
    rows = []
    for block in own.blocks:
        at, size = starts.get(block.name), block.stop - block.start
        known = at is not None and at[1] == size
        place, below_place = (at[0] if at is not None else 0), starts_in_base.get(block.name, (0, 0))
        in_base = base is None or below_place[1] == size
        if known and block.name != BACKBONE and _equal(target, reference, tensors, block.start, place, size):
            how = "shared"
        else:
            how = "part" if known and in_base else "own"
        rows.append(RowsEntry(start=block.start, stop=block.stop, how=how, at=place, base=below_place[0]))
    return TokenRows(tensors=tensors, rows=tuple(rows))


def _layout(table: BlockTable) -> list[tuple[str, int, int]]:
    return [(block.name, block.start, block.stop) for block in table.blocks]


def _can_refer(name: str, target: Source, reference: Source, base: Source | None) -> bool:
    own = target.info(name)
    return all(
        other is None or (name in other and other.info(name).shape[1:] == own.shape[1:]) for other in (reference, base)
    )


def _starts(table: BlockTable | None, model: Source | None, tensors: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Block → its first row in a model, and its size; of a model without blocks all rows belong to the backbone."""
    if model is None:
        return {}
    if table is not None:
        return {block.name: (block.start, block.stop - block.start) for block in table.blocks}
    rows = {model.info(name).shape[0] for name in tensors}
    return {BACKBONE: (0, rows.pop())} if len(rows) == 1 else {}


def _equal(one: Source, other: Source, tensors: Iterable[str], start: int, place: int, rows: int) -> bool:
    """Whether rows of two models hold the same bytes."""
    return all(
        one.info(name).dtype == other.info(name).dtype
        and _rows(one, name, start, rows).tobytes() == _rows(other, name, place, rows).tobytes()
        for name in tensors
    )


def _rows(model: Tensors, name: str, start: int, rows: int):
    width = TensorInfo("uint8", model.info(name).shape[1:]).size
    return model.read(name, start * width, (start + rows) * width)
