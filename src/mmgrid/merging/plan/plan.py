"""What happens to every tensor of every source: merged, kept or dropped, decided from types and shapes alone.

Nothing is left to chance: a tensor that one source has and another lacks, or that differs in shape, stops
the merge before any of it is read. Rules: floating-point tensors are merged, scalars like all others;
whole-number and truth tensors (buffers, positions, codes) are kept and must be the same in all sources; what
only the base has is dropped. Token rows follow their blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.models.token_blocks import OutputBlock, rows_of

BASE = "(base)"


@dataclass(frozen=True)
class Part:
    """Elements [start, stop) of a tensor of the result, and where each source has them.

    Attributes:
        merged: computed from all of `sources`; otherwise copied of the only one.
        sources: name of the source → its element that belongs to `start`.
        base: the base's element that belongs to `start`; None where it lacks them, and the delta is zero.
    """

    start: int
    stop: int
    merged: bool
    sources: Mapping[str, int]
    base: int | None


Piece = tuple[Chunk, Part]  # a run, and what it is a part of


@dataclass(frozen=True)
class Plan:
    """The fate of every tensor; names sorted.

    Attributes:
        merged: name → type and shape of the result.
        kept: name → type and shape of tensors taken as they are from the sources, which agree on them.
        dropped: name → why it is not in the result.
        parts: name → its parts, for merged tensors.
        blocks: the blocks of the result's token rows.
        block_tensors: whose rows they are.
    """

    merged: dict[str, TensorInfo]
    kept: dict[str, TensorInfo]
    dropped: dict[str, str]
    parts: dict[str, tuple[Part, ...]]
    blocks: tuple[OutputBlock, ...] = ()
    block_tensors: tuple[str, ...] = ()

    @property
    def infos(self) -> dict[str, TensorInfo]:
        """All tensors of the result."""
        return dict(sorted({**self.merged, **self.kept}.items()))

    def merged_parts(self) -> Iterator[tuple[str, Part]]:
        """What is computed, in canonical order: tensors by name, elements row by row."""
        for name in sorted(self.merged):
            yield from ((name, part) for part in self.parts[name] if part.merged)


def plan_merge(
    sources: Mapping[str, Tensors],
    base: Tensors | None,
    dtype: str | None,
    *,
    blocks: tuple[OutputBlock, ...] = (),
    block_tensors: frozenset[str] = frozenset(),
) -> Plan:
    """Decide what happens to each tensor.

    Args:
        sources: name of the source → its tensors.
        base: the tensors of θ₀, where the method has one.
        dtype: type of the merged tensors by torch's name; None for the widest among the sources, float32 at most.
        blocks: how the rows of `block_tensors` are laid out.

    Raises:
        MergeError: there is nothing to merge, or sources or base lack a tensor or
            disagree on its shape or type.
    """
    names = sorted({name for tensors in sources.values() for name in tensors})
    if not names:
        raise MergeError(f"the sources hold no tensors: {listing(sources)}")
    for source, tensors in sources.items():
        lacking = [name for name in names if name not in tensors]
        if lacking:
            raise MergeError(
                f"source {source!r} lacks {listing(lacking)}, which another source has; sources must be of "
                f"one architecture, saved alike (tied or untied embeddings both)"
            )
    merged, kept, parts = {}, {}, {}
    for name in names:
        infos = {source: tensors.info(name) for source, tensors in sources.items()}
        in_blocks = name in block_tensors and is_float(infos[min(infos)].dtype)
        if base is not None and is_float(infos[min(infos)].dtype):
            if name not in base:
                raise MergeError(f"the base lacks {name}, which the sources have; it must be what they come from")
            _check_alike(name, {**infos, BASE: base.info(name)}, rows_may_differ=in_blocks)
        _check_alike(name, infos, rows_may_differ=in_blocks)
        types = [infos[source].native or infos[source].dtype for source in sorted(infos)]
        shape = infos[min(infos)].shape
        if not is_float(types[0]):
            kept[name] = TensorInfo(types[0], shape)
            continue
        if in_blocks:
            shape = (rows_of(blocks), *shape[1:])
        merged[name] = TensorInfo(dtype or _widest(types), shape)
        parts[name] = _parts_of_blocks(blocks, shape) if in_blocks else (_whole(merged[name], sources),)
    dropped = dict.fromkeys(sorted(set(base or ()) - set(names)), "only the base has it")
    return Plan(merged, kept, dropped, parts, blocks, tuple(sorted(block_tensors & merged.keys())))


def _whole(info: TensorInfo, sources: Mapping[str, Tensors]) -> Part:
    return Part(0, info.size, True, dict.fromkeys(sources, 0), 0)


def _parts_of_blocks(blocks: tuple[OutputBlock, ...], shape: tuple[int, ...]) -> tuple[Part, ...]:
    row = TensorInfo("uint8", shape[1:]).size
    return tuple(
        Part(
            laid.block.start * row,
            laid.block.stop * row,
            laid.action == "merge",
            {source: start * row for source, start in laid.sources.items()},
            None if laid.base is None else laid.base * row,
        )
        for laid in blocks
    )


def _check_alike(name: str, infos: Mapping[str, TensorInfo], *, rows_may_differ: bool) -> None:
    if len({info.shape[rows_may_differ:] for info in infos.values()}) > 1:
        shapes = ", ".join(f"{source} {list(info.shape)}" for source, info in infos.items())
        hint = ""
        if len({info.shape[1:] for info in infos.values()}) == 1 and not rows_may_differ:
            hint = "; if these are token rows, name their blocks (blocks in the recipe, or in each mmgrid.json)"
        raise MergeError(f"tensor {name}: shapes differ: {shapes}{hint}")
    integers = {info.dtype for info in infos.values() if not is_float(info.dtype)}
    floats = [info for info in infos.values() if is_float(info.dtype)]
    if len(integers) + bool(floats) > 1:
        types = ", ".join(f"{source} {info.dtype}" for source, info in infos.items())
        raise MergeError(f"tensor {name}: types cannot be brought together: {types}")


def _widest(types: list[str]) -> str:
    """The narrowest type that holds all of them, float32 at most, since that is what is computed in."""
    if len(set(types)) == 1 and types[0] != "float64":
        return types[0]
    return "float32"  # float16 and bfloat16 have no other common type, and 8-bit floats are never widened halfway
