"""The checkpoint of a domain of a family, or of an adapter, as torch tensors, without a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmgrid.families.models import runs_of
from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.models.family.member import open_member
from mmgrid.merging.models.source import Source

if TYPE_CHECKING:
    from torch import Tensor


def state_dict(family: str | Path, domain: str | None = None, *, workers: int | None = None) -> dict[str, Tensor]:
    """The tensors of one domain's checkpoint, by name, in their types.

    Args:
        family: its folder, or that of one of its parts.
        domain: of the family; may be left out if there is one.
        workers: number of threads; does not change the result. Default: one per core.

    Raises:
        MergeError: there is no such family or domain, or a file is missing or damaged.
    """
    with open_member(Path(family), domain) as member:
        twins = {name: str(each.like) for name, each in member.entry.tensors.items() if each.kind == "twin"}
        return tensors_of(member, twins, workers=workers)


def tensors_of(
    source: Source, twins: Mapping[str, str] | None = None, *, workers: int | None = None
) -> dict[str, Tensor]:
    """The tensors of an open model, such as an adapter on its model, by name, in their types.

    Args:
        twins: tensor → the tensor that it equals; only that one is read.
        workers: as for `state_dict`.

    Raises:
        MergeError: a file has changed since the model was opened.
    """
    from mmgrid.merging.in_memory import TorchSink

    twins = twins or {}
    sink = TorchSink({name: source.info(name) for name in source}, {}, twins)

    def read(chunk: Chunk) -> None:
        with frame():
            sink.write(chunk.tensor, chunk.start, source.read(chunk.tensor, chunk.start, chunk.stop))

    for_each([chunk for chunk in runs_of(source) if chunk.tensor not in twins], read, workers or default_workers())
    source.check_unchanged()
    return sink.tensors(None)
