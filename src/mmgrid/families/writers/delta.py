"""Writes differences in a few bits: levels for each tensor, a scale for each row or group, a code for each weight."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mmgrid.families.pair import Pair
from mmgrid.families.parts import DeltaPart, PartOptions
from mmgrid.merging.arrays.buffers import frame, take
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, Chunk
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.models.family.file import FILE_OF_KIND
from mmgrid.merging.models.family.readers import CODES, LEVELS, SCALES_OF
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.parts.delta import SCALES, Grid, Levels, best_levels, encoded, sampled_rows
from mmgrid.merging.parts.packing import TOGETHER, pack, packed_size


def write_delta(
    pair: Pair, names: Mapping[str, PartOptions], folder: Path, workers: int
) -> Mapping[str, Mapping[str, object]]:
    """Write θ − θ_reference of some tensors."""
    options = {name: part for name, part in names.items() if isinstance(part, DeltaPart)}
    grids = {name: Grid.of(pair.shape(name), part.group) for name, part in options.items()}
    infos: dict[str, TensorInfo] = {}
    for name, grid in grids.items():
        bits = options[name].bits
        infos[name + CODES] = TensorInfo("uint8", (packed_size(grid.rows * grid.columns, bits),))
        infos[name + SCALES_OF] = TensorInfo(SCALES, (grid.rows, grid.groups_per_row))
        infos[name + LEVELS] = TensorInfo("float32", (2**bits,))
    levels: dict[str, Levels] = {}
    with TensorWriter(folder / FILE_OF_KIND["delta"], infos) as writer:

        def choose(name: str) -> None:
            levels[name] = _levels(pair, name, grids[name], options[name].bits)
            writer.write(name + LEVELS, 0, levels[name].values)

        def code(chunk: Chunk) -> None:
            with frame():
                _code(pair, chunk, grids[chunk.tensor], levels[chunk.tensor], writer)

        for_each(grids, choose, workers)
        for_each([chunk for name, grid in grids.items() for chunk in _runs(name, grid)], code, workers)
    return {}


def _levels(pair: Pair, name: str, grid: Grid, bits: int) -> Levels:
    rows = sampled_rows(grid.rows, grid.columns)
    sample = np.zeros((len(rows), grid.columns), np.float32)
    for place, row in enumerate(rows.tolist()):
        with frame():
            sample[place] = _change(pair, name, row * grid.columns, (row + 1) * grid.columns)
    return best_levels(_in_groups(sample, grid), bits)


def _runs(name: str, grid: Grid) -> Iterator[Chunk]:
    """Runs of whole rows whose codes begin at a byte."""
    step = TOGETHER // math.gcd(TOGETHER, grid.columns) if grid.columns else 1
    rows = max(CHUNK_ELEMENTS // max(grid.columns * step, 1), 1) * step
    for first in range(0, grid.rows, rows):
        yield Chunk(name, first * grid.columns, min(first + rows, grid.rows) * grid.columns)


def _code(pair: Pair, chunk: Chunk, grid: Grid, levels: Levels, writer: TensorWriter) -> None:
    name, start, stop = chunk.tensor, chunk.start, chunk.stop
    if start == stop:
        return
    change = _change(pair, name, start, stop).reshape(-1, grid.columns)
    groups = _in_groups(change, grid)
    codes, scales = encoded(groups, levels)
    whole = grid.groups_per_row * grid.group
    codes = codes.reshape(-1, whole)[:, : grid.columns].reshape(-1)
    writer.write(name + CODES, start // TOGETHER * levels.bits, pack(codes, levels.bits))
    writer.write(name + SCALES_OF, grid.groups_of(start, stop)[0], scales)


def _change(pair: Pair, name: str, start: int, stop: int) -> Floats:
    values = pair.values(name, start, stop)
    return np.subtract(values, pair.reference_values(name, start, stop), out=take(len(values)))


def _in_groups(rows: Floats, grid: Grid) -> Floats:
    """Rows as groups [rows · groups_per_row, group]; a last group that is shorter is filled up with zeros."""
    whole = grid.groups_per_row * grid.group
    if whole == grid.columns:
        return rows.reshape(-1, grid.group)
    padded = take(len(rows) * whole).reshape(len(rows), whole)
    padded[:, : grid.columns] = rows
    padded[:, grid.columns :] = 0
    return padded.reshape(-1, grid.group)
