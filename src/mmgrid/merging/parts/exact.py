"""A tensor bit for bit, in fewer bytes: its difference from another one, byte by byte, compressed.

Elements are whole numbers as wide as the type. Of a tensor near the other one, the difference is taken (modulo 2^width)
and folded (0, −1, 1, −2, … become 0, 1, 2, 3, …), so that the upper bytes of close values are mostly zero. Bytes of equal
place go together into planes, and each plane is compressed on its own, with a checksum, unless this makes it larger.
"""

import struct
import sys

import numpy as np

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 1 << 18  # elements that are compressed together
_LEVEL = 1  # the fastest
_OPTIONS = {zstd.CompressionParameter.compression_level: _LEVEL, zstd.CompressionParameter.checksum_flag: 1}


class BrokenBlockError(ValueError):
    """The bytes of a block are damaged."""


def compressed(stored: np.ndarray, reference: np.ndarray | None) -> bytes:
    """A block of flat elements as bytes.

    reference: elements of the same type and number, from which the difference is taken; None to take the elements.
    """
    numbers = _whole_numbers(stored)
    if reference is not None:
        numbers = _folded(numbers - _whole_numbers(reference))
    width = numbers.itemsize
    planes = []
    for place in range(width):
        raw = np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, width)[:, place]).tobytes()
        packed = zstd.compress(raw, options=_OPTIONS)  # pyright: ignore[reportArgumentType]
        planes.append(packed if len(packed) < len(raw) else raw)
    return struct.pack(f"<{width}I", *map(len, planes)) + b"".join(planes)


def restored(block: bytes, count: int, dtype: np.dtype, reference: np.ndarray | None) -> np.ndarray:
    """The `count` elements of type `dtype` that `compressed` made a block of.

    Raises:
        BrokenBlockError: the block is damaged.
    """
    width = dtype.itemsize
    try:
        sizes = struct.unpack_from(f"<{width}I", block)
        if 4 * width + sum(sizes) != len(block):
            raise BrokenBlockError("its planes do not fill it")
        planes, start = np.empty((count, width), np.uint8), 4 * width
        for place, size in enumerate(sizes):
            raw = block[start : start + size]
            if size != count:  # a plane that compression would not shorten has one byte per element
                raw = zstd.decompress(raw)
            if len(raw) != count:
                raise BrokenBlockError("a plane has another length")
            planes[:, place] = np.frombuffer(raw, np.uint8)
            start += size
    except (struct.error, zstd.ZstdError) as error:
        raise BrokenBlockError(str(error)) from error
    numbers = planes.reshape(-1).view(f"<u{width}")
    if reference is not None:
        numbers = _unfolded(numbers)
        numbers += _whole_numbers(reference)
    return numbers.view(dtype)


def _whole_numbers(stored: np.ndarray) -> np.ndarray:
    """The bits of elements as whole numbers without sign."""
    return np.ascontiguousarray(stored).view(f"<u{stored.itemsize}")


def _folded(numbers: np.ndarray) -> np.ndarray:
    """Small numbers of either sign as small numbers without: 0, −1, 1, −2, … become 0, 1, 2, 3, …"""
    kind = numbers.dtype.type
    negative = numbers >> kind(8 * numbers.itemsize - 1)
    return (numbers << kind(1)) ^ (kind(0) - negative)


def _unfolded(numbers: np.ndarray) -> np.ndarray:
    kind = numbers.dtype.type
    return (numbers >> kind(1)) ^ (kind(0) - (numbers & kind(1)))
