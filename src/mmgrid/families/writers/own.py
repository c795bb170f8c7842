"""Stores tensors of a domain, and token rows that only it has, as they are."""

from collections.abc import Mapping
from pathlib import Path

from mmgrid.families.pair import Pair
from mmgrid.families.parts import PartOptions
from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, Chunk, chunks_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.models.family.file import FILE_OF_KIND
from mmgrid.merging.models.family.rows import read_spans
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo


def write_own(
    pair: Pair, names: Mapping[str, PartOptions], folder: Path, workers: int
) -> Mapping[str, Mapping[str, object]]:
    """Write the tensors of kind `own`, and the own rows of all token tables."""
    whole = {name: TensorInfo(entry.dtype, entry.shape) for name, entry in pair.entry.tensors.items() if name in names}
    rows = {name: own for name, own in pair.rows.items() if own.count("own") and name not in names}
    infos = whole | {
        name: TensorInfo(pair.target.info(name).dtype, (own.count("own"), *pair.target.info(name).shape[1:]))
        for name, own in rows.items()
    }
    with TensorWriter(folder / FILE_OF_KIND["own"], infos) as writer:

        def copy(chunk: Chunk) -> None:
            name, start, stop = chunk.tensor, chunk.start, chunk.stop
            with frame():
                if name in rows:
                    stored = read_spans(pair.target, name, rows[name].spans(start, stop, "start", "own"))
                else:
                    stored = pair.target.read(name, start, stop)
                writer.write(name, start, stored)

        runs = [chunk for name, info in infos.items() for chunk in chunks_of(name, info.size, CHUNK_ELEMENTS)]
        for_each(runs, copy, workers)
    return {}
