"""Writes the change of a domain's linear layers as a LoRA adapter of PEFT, on the shared model of the family."""

import os
from collections.abc import Mapping
from pathlib import Path

from mmgrid.families.pair import Pair
from mmgrid.families.parts import LowRankPart, PartOptions
from mmgrid.merging.extract_lora import ADAPTER_TYPES, extract_layers
from mmgrid.merging.models.family.file import LOW_RANK_FOLDER


def write_low_rank(
    pair: Pair, names: Mapping[str, PartOptions], folder: Path, workers: int
) -> Mapping[str, Mapping[str, object]]:
    """Write an adapter for some linear layers. Layers that equal the shared model's are in none."""
    options = {name: part for name, part in names.items() if isinstance(part, LowRankPart)}
    types = {pair.entry.tensors[name].dtype for name in names}
    wanted = {part.dtype for part in options.values()}
    dtype = wanted.pop() if len(wanted) == 1 else "float32"
    if dtype == "source":
        dtype = types.pop() if len(types) == 1 and types <= ADAPTER_TYPES else "float32"
    extract_layers(
        pair.target,
        pair.reference,
        folder / LOW_RANK_FOLDER,
        ranks={name: (part.rank, part.energy) for name, part in options.items()},
        named=os.path.relpath(pair.reference.path, folder / LOW_RANK_FOLDER),
        dtype=dtype,
        workers=workers,
    )
    return {}
