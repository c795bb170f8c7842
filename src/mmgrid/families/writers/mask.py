"""Writes masks: a bit for each weight, and λ for each tensor, which is the same for all if it belongs to the model."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import numpy as np

from mmgrid.families.pair import Pair
from mmgrid.families.parts import MaskPart, PartOptions
from mmgrid.merging.arrays.buffers import frame, take
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, Chunk, chunks_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.models.family.file import FILE_OF_KIND
from mmgrid.merging.models.family.readers import CODES, FACTOR
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.parts.mask import BITS, MaskSums, emr_mask, tall_mask
from mmgrid.merging.parts.packing import TOGETHER, pack, packed_size


def write_mask(
    pair: Pair, names: Mapping[str, PartOptions], folder: Path, workers: int
) -> Mapping[str, Mapping[str, object]]:
    """Write m and λ of some tensors."""
    options = {name: part for name, part in names.items() if isinstance(part, MaskPart)}
    sizes = {name: TensorInfo("uint8", pair.shape(name)).size for name in options}
    infos = {name + CODES: TensorInfo("uint8", (packed_size(size, BITS),)) for name, size in sizes.items()}
    infos |= {name + FACTOR: TensorInfo("float32", (1,)) for name in options}
    runs: dict[tuple[str, int], MaskSums] = {}
    adding = Lock()
    with TensorWriter(folder / FILE_OF_KIND["mask"], infos) as writer:

        def code(chunk: Chunk) -> None:
            with frame():
                sums = _code(pair, chunk, options[chunk.tensor], writer)
            with adding:
                runs[chunk.tensor, chunk.start] = sums

        for_each(
            [chunk for name, size in sizes.items() for chunk in chunks_of(name, size, CHUNK_ELEMENTS)],
            code,
            workers,
        )
        for name, factor in _factors(options, runs).items():
            writer.write(name + FACTOR, 0, np.array([factor], np.float32))
    return {}


def _code(pair: Pair, chunk: Chunk, part: MaskPart, writer: TensorWriter) -> MaskSums:
    name, start, stop = chunk.tensor, chunk.start, chunk.stop
    base = pair.base_values(name, start, stop)
    own = np.subtract(pair.values(name, start, stop), base, out=take(stop - start))
    shared = np.subtract(pair.reference_values(name, start, stop), base, out=take(stop - start))
    mask = emr_mask(own, shared) if part.rule == "emr" else tall_mask(own, shared, part.threshold)
    writer.write(name + CODES, start // TOGETHER * BITS, pack(mask.view(np.uint8), BITS))
    return MaskSums.of(own, shared, mask)


def _factors(options: Mapping[str, MaskPart], runs: Mapping[tuple[str, int], MaskSums]) -> dict[str, float]:
    """λ of each tensor. Sums run in the order of names, so that threads change no bit."""
    of_tensor: dict[str, MaskSums] = defaultdict(MaskSums)
    of_part: dict[MaskPart, MaskSums] = defaultdict(MaskSums)
    for (name, _), sums in sorted(runs.items(), key=lambda item: item[0]):
        of_tensor[name] += sums
        of_part[options[name]] += sums
    known = {"model": lambda name: of_part[options[name]].scale, "tensor": lambda name: of_tensor[name].scale}
    return {name: known.get(part.rescaled, lambda _: 1.0)(name) for name, part in options.items()}
