"""Random numbers that belong to places: the same whatever the chunks, the threads, the order or the machine.

Philox is a counter-based generator: the number of element e is a function of the key (from seed, source, tensor
and stage) and of e alone. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.methods.stages.base import Place

HALVES, REST = "halves", "rest"  # the streams of `happens`
_BLOCK_BITS = 256  # of Philox 4×64: one step of its counter


def words(place: Place, n: int) -> NDArray[np.uint32]:
    """Uniform 32-bit numbers of the `n` elements from `place` on."""
    return _numbers(place, place.start, n, "<u4", "words")


def happens(place: Place, n: int, probability: float) -> NDArray[np.bool_]:
    """For each of `n` elements from `place` on, whether an event of this probability happens to it.

    Sixteen bits decide almost always; where they are just those of the probability, 32 more do.
    """
    first, rest = limits(probability)
    halves = _numbers(place, place.start, n, "<u2", HALVES)
    happened = np.less(halves, first, out=take(n, np.bool_)) if first < 2**16 else np.ones(n, np.bool_)
    for open_place in np.flatnonzero(halves == first).tolist():
        happened[open_place] = _numbers(place, place.start + open_place, 1, "<u4", REST)[0] < rest
    return happened


def limits(probability: float) -> tuple[int, int]:
    """Below which of the first 16 bits an event of this probability happens, and of 32 more where they are equal."""
    return divmod(round(probability * 2**48), 2**32)


def key_of(place: Place, purpose: str) -> int:
    """The key, of 128 bits, of a place's stream for `purpose`: the same for all elements of a tensor."""
    text = "\0".join([str(place.seed), place.source, place.tensor, str(place.stage), purpose])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def _numbers(place: Place, start: int, n: int, dtype: DTypeLike, purpose: str) -> np.ndarray:
    """The numbers of elements [start, start + n) in the stream for `purpose`."""
    bits = np.dtype(dtype).itemsize * 8
    block, skip = divmod(start, _BLOCK_BITS // bits)
    drawn = np.random.Philox(key=key_of(place, purpose), counter=block).random_raw(-(-(skip + n) * bits // 64))
    return drawn.astype("<u8", copy=False).view(dtype)[skip : skip + n]
