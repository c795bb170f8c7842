"""What happens to every tensor of every source: merged, kept or dropped, decided from types and shapes alone.

Nothing is left to chance: a tensor that one source has and another lacks, or that differs in shape, stops
the merge before any of it is read. Rules: floating-point tensors are merged, scalars like all others;
whole-number and truth tensors (buffers, positions, codes) are kept and must be the same in all sources; what
only the base has is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.tensors import TensorInfo, info_of

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """The fate of every tensor; names sorted.

    Attributes:
        merged: name → type and shape of the result.
        kept: name → type and shape of tensors taken as they are from the sources, which agree on them.
        dropped: name → why it is not in the result.
    """

    merged: dict[str, TensorInfo]
    kept: dict[str, TensorInfo]
    dropped: dict[str, str]


def plan_merge(sources: Mapping[str, Tensors], base: Tensors | None, dtype: torch.dtype | None) -> Plan:
    """Decide what happens to each tensor.

    Args:
        sources: name of the source → its tensors.
        base: the tensors of θ₀, where the method has one.
        dtype: type of the merged tensors; None for the widest among the sources, float32 at most.

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
    merged, kept = {}, {}
    for name in names:
        infos = {source: info_of(tensors, name) for source, tensors in sources.items()}
        _check_alike(name, infos)
        types = [infos[source].dtype for source in sorted(infos)]
        shape = infos[min(infos)].shape
        if not types[0].is_floating_point:
            kept[name] = TensorInfo(types[0], shape)
            continue
        merged[name] = TensorInfo(dtype or _widest(types), shape)
        if base is not None:
            if name not in base:
                raise MergeError(f"the base lacks {name}, which the sources have; it must be what they come from")
            _check_alike(name, {**infos, "(base)": info_of(base, name)})
    dropped = dict.fromkeys(sorted(set(base or ()) - set(names)), "only the base has it")
    return Plan(merged, kept, dropped)


def _check_alike(name: str, infos: Mapping[str, TensorInfo]) -> None:
    if len({info.shape for info in infos.values()}) > 1:
        shapes = ", ".join(f"{source} {list(info.shape)}" for source, info in infos.items())
        raise MergeError(f"tensor {name}: shapes differ: {shapes}")
    strange = [info.dtype for info in infos.values() if info.dtype.is_complex]
    if strange:
        raise MergeError(f"tensor {name}: type {strange[0]} is not merged")
    integers = {info.dtype for info in infos.values() if not info.dtype.is_floating_point}
    floats = [info for info in infos.values() if info.dtype.is_floating_point]
    if len(integers) + bool(floats) > 1:
        types = ", ".join(f"{source} {info.dtype}" for source, info in infos.items())
        raise MergeError(f"tensor {name}: types cannot be brought together: {types}")


def _widest(types: list[torch.dtype]) -> torch.dtype:
    """The narrowest type that holds all of them, float32 at most, since that is what is computed in."""
    if len(set(types)) == 1 and types[0] != torch.float64:
        return types[0]
    if any(kind.itemsize == 1 or kind == torch.float64 for kind in types):  # torch promotes no 8-bit floats
        return torch.float32
    return reduce(torch.promote_types, types)
