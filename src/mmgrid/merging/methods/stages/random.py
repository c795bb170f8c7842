"""Random numbers by place: independent of the runs, the threads, the order and the machine.

Philox is a counter-based generator: the number of element e is a function only of the key (from seed, source, tensor
and stage) and of e. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import hashlib

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.methods.stages.place import Place

WORDS = "words"  # the stream of `words`
HALVES, REST = "halves", "rest"  # the streams of `happens`
_BLOCK_BITS = 256  # that Philox 4×64 yields per step of its counter


def words(place: Place, n: int) -> NDArray[np.uint32]:
    """Uniform 32-bit numbers for the `n` elements from `place` on."""
    return _numbers(place, place.start, n, "<u4", WORDS)


def happens(place: Place, n: int, probability: float) -> NDArray[np.bool_]:
    """Whether an event of this probability happens, for each of the `n` elements from `place` on.

    Sixteen random bits almost always decide; where they equal the first sixteen bits of the probability, 32 more do.
    """
    first, rest = limits(probability)
    halves = _numbers(place, place.start, n, "<u2", HALVES)
    happened = np.less(halves, first, out=take(n, np.bool_)) if first < 2**16 else np.ones(n, np.bool_)
    for open_place in np.flatnonzero(halves == first).tolist():
        happened[open_place] = _numbers(place, place.start + open_place, 1, "<u4", REST)[0] < rest
    return happened


def limits(probability: float) -> tuple[int, int]:
    """The limits below which the event happens: of the first 16 random bits and, where these are equal, of 32 more."""
    return divmod(round(probability * 2**48), 2**32)


def key_of(place: Place, purpose: str) -> int:
    """The 128-bit key of a place's stream for `purpose`; all elements of a tensor share it."""
    text = "\0".join([str(place.seed), place.source, place.tensor, str(place.stage), purpose])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def _numbers(place: Place, start: int, n: int, dtype: DTypeLike, purpose: str) -> np.ndarray:
    """The numbers of elements [start, start + n) in the stream for `purpose`."""
    bits = np.dtype(dtype).itemsize * 8
    block, skip = divmod(start, _BLOCK_BITS // bits)
    drawn = np.random.Philox(key=key_of(place, purpose), counter=block).random_raw(-(-(skip + n) * bits // 64))
    return drawn.astype("<u8", copy=False).view(dtype)[skip : skip + n]
