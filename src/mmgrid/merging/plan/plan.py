"""Decides from types and shapes alone what happens to every tensor: it is merged, kept or dropped.

Floating-point tensors are merged, scalars included. Tensors of whole numbers or booleans (buffers, positions, codes)
are kept and must be equal in all sources. Tensors that only the base has are dropped. Token rows follow their blocks.
If one source lacks a tensor, or has it in another shape, the merge stops before anything is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.plan.block_layout import OutputBlock, rows_of

BASE = "(base)"


@dataclass(frozen=True)
class TensorPart:
    """Elements [start, stop) of a tensor of the result, and their places in the sources.

    Attributes:
        merged: whether they are computed from all of `sources`; otherwise they are copied from the only one.
        sources: name of the source → index of its element for `start`.
        base: index of the base's element for `start`; None if the base lacks them.
    """

    start: int
    stop: int
    merged: bool
    sources: Mapping[str, int]
    base: int | None


PlannedChunk = tuple[Chunk, TensorPart]  # a run, and the part of the tensor that contains it


@dataclass(frozen=True)
class Plan:
    """What happens to each tensor; names are sorted.

    Attributes:
        merged: name → type and shape of the result.
        kept: name → type and shape of tensors taken unchanged from the sources, where they are equal.
        dropped: name → the reason why it is not in the result.
        parts: name → its parts, for merged tensors.
        blocks: the token blocks of the result.
        block_tensors: the tensors whose rows the blocks describe.
        twins: name of a tensor that is not merged, but stored → the one whose values it has.
    """

    merged: dict[str, TensorInfo]
    kept: dict[str, TensorInfo]
    dropped: dict[str, str]
    parts: dict[str, tuple[TensorPart, ...]]
    blocks: tuple[OutputBlock, ...] = ()
    block_tensors: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)

    @property
    def infos(self) -> dict[str, TensorInfo]:
        """All tensors that are computed or copied."""
        return dict(sorted({**self.merged, **self.kept}.items()))

    @property
    def stored(self) -> dict[str, TensorInfo]:
        """All tensors of the result."""
        infos = self.infos
        return dict(sorted({**infos, **{twin: infos[first] for twin, first in self.twins.items()}}.items()))

    def merged_parts(self) -> Iterator[tuple[str, TensorPart]]:
        """The parts that are computed, in canonical order: tensors by name, elements row by row."""
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
        dtype: torch's name for the type of the merged tensors; None for the widest among the sources, at most float32.
        blocks: the layout of the rows of `block_tensors`.

    Raises:
        MergeError: there is nothing to merge, or a source or the base lacks a tensor or has it in another shape or
            type.
    """
    names = sorted({name for tensors in sources.values() for name in tensors})
    if not names:
        raise MergeError(f"the sources contain no tensors: {listing(sources)}")
    for source, tensors in sources.items():
        lacking = [name for name in names if name not in tensors]
        if lacking:
            raise MergeError(
                f"source {source!r} lacks {listing(lacking)}, which another source has; sources must be of "
                f"one architecture, and all saved with tied or all with untied embeddings"
            )
    merged, kept, parts = {}, {}, {}
    for name in names:
        infos = {source: tensors.info(name) for source, tensors in sources.items()}
        in_blocks = name in block_tensors and is_float(infos[min(infos)].dtype)
        if base is not None and is_float(infos[min(infos)].dtype):
            if name not in base:
                raise MergeError(
                    f"the base lacks {name}, which the sources have; it must be the model that they were trained from"
                )
            _check_same(name, {**infos, BASE: base.info(name)}, rows_may_differ=in_blocks)
        _check_same(name, infos, rows_may_differ=in_blocks)
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


def _whole(info: TensorInfo, sources: Mapping[str, Tensors]) -> TensorPart:
    return TensorPart(0, info.size, True, dict.fromkeys(sources, 0), 0)


def _parts_of_blocks(blocks: tuple[OutputBlock, ...], shape: tuple[int, ...]) -> tuple[TensorPart, ...]:
    row = TensorInfo("uint8", shape[1:]).size
    return tuple(
        TensorPart(
            laid.block.start * row,
            laid.block.stop * row,
            laid.action == "merge",
            {source: start * row for source, start in laid.sources.items()},
            None if laid.base is None else laid.base * row,
        )
        for laid in blocks
    )


def _check_same(name: str, infos: Mapping[str, TensorInfo], *, rows_may_differ: bool) -> None:
    if len({info.shape[rows_may_differ:] for info in infos.values()}) > 1:
        shapes = ", ".join(f"{source} {list(info.shape)}" for source, info in infos.items())
        hint = ""
        rows = all(info.shape for info in infos.values()) and len({info.shape[1:] for info in infos.values()}) == 1
        if rows and not rows_may_differ:
            hint = (
                "; if these are token rows, choose one vocabulary, and rows are arranged by their tokens: `vocabulary: base`, "
                "`union` or a source's name; on the command line --vocabulary"
            )
        raise MergeError(f"tensor {name}: shapes differ: {shapes}{hint}")
    integers = {info.dtype for info in infos.values() if not is_float(info.dtype)}
    floats = [info for info in infos.values() if is_float(info.dtype)]
    if len(integers) + bool(floats) > 1:
        types = ", ".join(f"{source} {info.dtype}" for source, info in infos.items())
        raise MergeError(f"tensor {name}: types cannot be combined: {types}")


def _widest(types: list[str]) -> str:
    """The narrowest type that holds all of them, at most float32, the type of the computation."""
    if len(set(types)) == 1 and types[0] != "float64":
        return types[0]
    return "float32"  # float16 and bfloat16 have no narrower common type; 8-bit floats of two kinds become float32, too
