"""Writes every bit of tensors in compressed blocks, of their difference from the reference where that takes less."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmgrid.families.pair import Pair
from mmgrid.families.parts import PartOptions
from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk, chunks_of
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.models.family.file import FILE_OF_KIND
from mmgrid.merging.models.family.readers import BLOCKS, ENDS
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.parts.exact import BLOCK, compressed

_SAMPLES, _SAMPLE = 4, 1 << 15  # pieces of a tensor, and their elements, on which the two ways are compared
_AT_ONCE = 16  # blocks per thread that wait in memory to be written in order
_COPIED = 1 << 22


def write_exact(
    pair: Pair, names: Mapping[str, PartOptions], folder: Path, workers: int
) -> Mapping[str, Mapping[str, object]]:
    """Write the bits of some tensors. Returns which of them are differences.

    How long a block becomes is known only when it is made, so the blocks first go into a file of their own.
    """
    sizes = {name: TensorInfo("uint8", pair.shape(name)).size for name in names}
    near: dict[str, bool] = {}

    def compare(name: str) -> None:
        near[name] = _is_near(pair, name, sizes[name])

    for_each(names, compare, workers)
    blocks = [chunk for name in sizes for chunk in chunks_of(name, sizes[name], BLOCK)]

    def block_of(chunk: Chunk) -> bytes:
        with frame():
            stored = pair.stored(chunk.tensor, chunk.start, chunk.stop).copy()
            reference = None
            if near[chunk.tensor]:
                reference = pair.stored_reference(chunk.tensor, chunk.start, chunk.stop)
            return compressed(stored, reference)

    spool = folder / "exact.blocks"
    with spool.open("xb+") as stream:
        lengths: dict[str, list[int]] = {name: [] for name in names}
        for chunk, block in zip(blocks, _in_order(blocks, block_of, workers), strict=True):
            stream.write(block)
            lengths[chunk.tensor].append(len(block))
        stream.seek(0)
        _assemble(stream, lengths, folder / FILE_OF_KIND["exact"])
    spool.unlink()
    return {name: {"difference": near[name]} for name in names}


def _is_near(pair: Pair, name: str, size: int) -> bool:
    """Whether the difference from the reference takes fewer bytes than the tensor itself, on a sample."""
    like = pair.entry.tensors[name].like or name
    if like not in pair.reference or pair.shape(name) != _shape_there(pair, name, like):
        return False
    there = pair.reference.info(like).dtype
    if there != pair.entry.tensors[name].dtype and not (is_float(there) and is_float(pair.entry.tensors[name].dtype)):
        return False
    plain = difference = 0
    for start in sorted(set(np.linspace(0, max(size - _SAMPLE, 0), _SAMPLES).astype(np.int64).tolist())):
        stop = min(start + _SAMPLE, size)
        with frame():
            stored = pair.stored(name, start, stop).copy()
            plain += len(compressed(stored, None))
            difference += len(compressed(stored, pair.stored_reference(name, start, stop)))
    return difference < plain


def _shape_there(pair: Pair, name: str, like: str) -> tuple[int, ...]:
    there = pair.reference.info(like).shape
    return there if name not in pair.rows else pair.shape(name)


def _in_order(chunks: Iterable[Chunk], work: Callable[[Chunk], bytes], workers: int) -> Iterator[bytes]:
    """The results of `work`, computed by several threads, in the order of the chunks."""
    waiting = iter(chunks)
    while some := list(islice(waiting, _AT_ONCE * workers)):
        results: dict[int, bytes] = {}

        def compute(place: int, some: list[Chunk] = some, results: dict[int, bytes] = results) -> None:
            results[place] = work(some[place])

        for_each(range(len(some)), compute, workers)
        yield from (results[place] for place in range(len(some)))


def _assemble(stream: BinaryIO, lengths: Mapping[str, list[int]], file: Path) -> None:
    """Copy the blocks of all tensors, which lie one after the other, into a safetensors file."""
    infos = {name + BLOCKS: TensorInfo("uint8", (sum(own),)) for name, own in lengths.items()}
    infos |= {name + ENDS: TensorInfo("int64", (len(own),)) for name, own in lengths.items()}
    with TensorWriter(file, infos) as writer:
        for name, own in lengths.items():
            writer.write(name + ENDS, 0, np.cumsum(own, dtype=np.int64))
            for start in range(0, sum(own), _COPIED):
                raw = stream.read(min(_COPIED, sum(own) - start))
                writer.write(name + BLOCKS, start, np.frombuffer(raw, np.uint8))
