"""Floating-point types as numpy arrays: widens any type to float32, and rounds float32 once to any type.

numpy has no bfloat16 and no 8-bit floats. A bfloat16 is the upper half of a float32: it is widened by a shift, and
rounded by an addition and a shift. An 8-bit float has 256 values: it is widened by a table and rounded by a search.
Arrays of these types are stored as unsigned integers of the same size (`STORAGE`).
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import like, take

Floats = NDArray[np.float32]
_WITHOUT_SIGN = np.uint32(0x7FFFFFFF)

# torch's name of the type → the numpy type of its bytes.
STORAGE: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float8_e4m3fn": np.dtype("u1"),
    "float8_e5m2": np.dtype("u1"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
LARGEST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": float(np.uint32(0x7F7F0000).view(np.float32)),
    "float8_e4m3fn": 448.0,
    "float8_e5m2": 57344.0,
}


def is_float(dtype: str) -> bool:
    """Whether torch's type `dtype` is a floating-point type."""
    return dtype in LARGEST


def width(dtype: str) -> int:
    """Bytes of one element."""
    return STORAGE[dtype].itemsize


def widen(stored: np.ndarray, dtype: str) -> Floats:
    """The values of `stored`, flat elements of type `dtype` stored as in `STORAGE`, in float32.

    float64 is rounded; all other types are exact. float32 is returned without a copy.
    """
    if dtype == "float32":
        return stored
    if dtype == "bfloat16":
        bits = take(len(stored), np.uint32)
        np.copyto(bits, stored)
        bits <<= 16
        return bits.view(np.float32)
    if dtype in ("float16", "float64"):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes an infinity, which `all_finite` finds
            return stored.astype(np.float32)
    return _values_of_bytes(dtype)[stored]


def narrow(values: Floats, dtype: str) -> np.ndarray:
    """`values` (flat, finite, within `LARGEST`) rounded to `dtype`, ties to even, stored as in `STORAGE`.

    float32 is returned without a copy.
    """
    if dtype == "float32":
        return values
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        rounded = np.right_shift(bits, 16, out=take(len(bits), np.uint32))
        rounded &= 1
        rounded += 0x7FFF
        rounded += bits
        rounded >>= 16
        half = take(len(bits), np.uint16)
        np.copyto(half, rounded, casting="unsafe")
        return half
    if dtype in ("float16", "float64"):
        return values.astype(STORAGE[dtype])
    return _nearest_bytes(values, dtype)


def magnitudes(values: Floats) -> NDArray[np.uint32]:
    """The bits of |values| as a new array: whole numbers in the order of the magnitudes."""
    return np.bitwise_and(values.view(np.uint32), _WITHOUT_SIGN, out=like(values, np.uint32))


def all_finite(stored: np.ndarray, values: Floats, dtype: str) -> bool:
    """Whether a run contains neither NaN nor infinities; `values` are those of `stored`, whose type is `dtype`."""
    if dtype == "bfloat16" and stored.size:  # half as many bytes to scan
        return int(np.bitwise_and(stored, 0x7FFF, out=like(stored)).max()) < 0x7F80
    return largest(values) < math.inf


def largest(values: Floats) -> float:
    """max |values|; NaN if `values` contains NaN, 0 if it is empty."""
    if not values.size:
        return 0.0
    return float(magnitudes(values).max().view(np.float32))  # the bits of NaN are the largest


@cache
def _values_of_bytes(dtype: str) -> Floats:
    """The value of each of the 256 bytes: sign, exponent, mantissa; NaN and infinities if the type has them."""
    exponent_bits, mantissa_bits, bias = (4, 3, 7) if dtype == "float8_e4m3fn" else (5, 2, 15)
    code = np.arange(256)
    exponent = (code >> mantissa_bits) & (2**exponent_bits - 1)
    mantissa = (code & (2**mantissa_bits - 1)) / 2**mantissa_bits
    size = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    if dtype == "float8_e4m3fn":  # no infinities: all bits set is NaN
        size[(code & 0x7F) == 0x7F] = np.nan
    else:
        size[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    return np.where(code >= 128, -size, size).astype(np.float32)


def _nearest_bytes(values: Floats, dtype: str) -> np.ndarray:
    table = _values_of_bytes(dtype)
    positive = np.flatnonzero(np.isfinite(table[:128])).astype(np.uint8)  # increasing, since bits are monotone
    known = table[positive].astype(np.float64)
    halves = (known[1:] + known[:-1]) / 2
    size = np.abs(values.astype(np.float64))
    code = np.searchsorted(halves, size, side="left")
    # Halfway between two values, `left` gives the lower one; ties go to the even one.
    on_half = (code < len(halves)) & (size == halves[np.minimum(code, len(halves) - 1)])
    code = np.where(on_half & (code % 2 == 1), code + 1, code)
    return (positive[code] | np.where(np.signbit(values), 128, 0).astype(np.uint8)).astype(np.uint8)
