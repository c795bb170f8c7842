"""Codes of 1, 2, 3, 4 or 8 bits in bytes, and their values by a table.

Code i takes bits [i·b, (i + 1)·b) of a stream whose first bit is the lowest of the first byte. So eight codes take b
bytes, and a run that begins at a multiple of eight codes begins at a byte.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import Floats

WIDTHS = (1, 2, 3, 4, 8)
TOGETHER = 8  # codes that fill whole bytes, whatever their width
Bytes = NDArray[np.uint8]


def packed_size(codes: int, bits: int) -> int:
    """Bytes of so many codes; the last ones are filled up to eight codes with zeros."""
    return -(-codes // TOGETHER) * bits


def pack(codes: Bytes, bits: int) -> Bytes:
    """Bytes of flat codes, each below 2^bits: uint8 [packed_size]."""
    whole = -(-len(codes) // TOGETHER) * TOGETHER
    if len(codes) < whole:
        codes = np.concatenate([codes, np.zeros(whole - len(codes), np.uint8)])
    if bits == 8:
        return codes
    if bits == 1:
        return np.packbits(codes, bitorder="little")
    if bits == 3:
        words = codes.reshape(-1, TOGETHER).astype(np.uint32)
        words <<= np.arange(0, 24, 3, dtype=np.uint32)
        return np.bitwise_or.reduce(words, axis=1).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)
    inner = codes.reshape(-1, 8 // bits) << np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(inner, axis=1)


def unpack(packed: Bytes, bits: int) -> Bytes:
    """The codes in whole groups of eight: uint8 [8 · len(packed) / bits]."""
    if bits == 8:
        return packed
    if bits == 1:
        return np.unpackbits(packed, bitorder="little")
    if bits == 3:
        index = _twelve_bits(packed)
        return ((index[:, None] >> np.arange(0, 12, 3, dtype=np.uint16)) & 7).astype(np.uint8).reshape(-1)
    return ((packed[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & (2**bits - 1)).reshape(-1)


def values_of(packed: Bytes, bits: int, levels: bytes) -> Floats:
    """The values of the codes in whole groups of eight: float32 [8 · len(packed) / bits].

    levels: the value of each code, as the bytes of float32 [2^bits]; hashable, so that its table is made once.
    """
    table, held = _table(bits, levels), table_codes(bits)
    index = _twelve_bits(packed) if bits == 3 else packed.view("<u2") if bits == 8 else packed
    found = take(len(index) * held).view(table.dtype)
    return np.take(table, index, out=found, mode="clip").view(np.float32)


def table_codes(bits: int) -> int:
    """How many codes one look-up turns into values."""
    return {2: 4, 3: 4, 4: 2, 8: 2}[bits]


@lru_cache(maxsize=64)
def _table(bits: int, levels: bytes) -> np.ndarray:
    """The values of several codes at once, as elements of 8 or 16 bytes: indexed by one or two bytes, or 12 bits."""
    held = table_codes(bits)
    index = np.arange(1 << (bits * held), dtype=np.uint32)
    codes = (index[:, None] >> np.arange(0, bits * held, bits, dtype=np.uint32)) & (2**bits - 1)
    values = np.ascontiguousarray(np.frombuffer(levels, np.float32)[codes])
    return values.view(np.complex128 if held == 4 else np.complex64).reshape(-1)


def _twelve_bits(packed: Bytes) -> NDArray[np.uint16]:
    """Three bytes as two numbers of 12 bits, four codes of three bits each."""
    triples = packed.reshape(-1, 3)
    index = take(2 * len(triples), np.uint16).reshape(-1, 2)
    low, middle, high = (triples[:, place].astype(np.uint16) for place in range(3))
    np.bitwise_or(low, (middle & 15) << 8, out=index[:, 0])
    np.bitwise_or(middle >> 4, high << 4, out=index[:, 1])
    return index.reshape(-1)
