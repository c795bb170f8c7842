"""Arrays at addresses: compiled loops take any number of arrays, of several types, as integers.

With tuples of arrays, every length and mixture of types would need its own compilation.
"""

from typing import Any

import numba
from numba import types
from numba.extending import intrinsic


@intrinsic
def _pointer_to(typing_context: Any, address: Any, element: Any) -> Any:
    """A pointer to elements of a type at an address."""
    pointer = types.CPointer(element.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.int64, element), generate


_pointer: Any = _pointer_to  # callers omit the typing context


@numba.njit(inline="always")
def bytes_at(address, shape):
    """uint8 at an address."""
    return numba.carray(_pointer(address, numba.uint8), shape)


@numba.njit(inline="always")
def halves_at(address, shape):
    """uint16 at an address."""
    return numba.carray(_pointer(address, numba.uint16), shape)


@numba.njit(inline="always")
def words_at(address, shape):
    """uint32 at an address."""
    return numba.carray(_pointer(address, numba.uint32), shape)


@numba.njit(inline="always")
def long_words_at(address, shape):
    """uint64 at an address."""
    return numba.carray(_pointer(address, numba.uint64), shape)


@numba.njit(inline="always")
def numbers_at(address, shape):
    """int64 at an address."""
    return numba.carray(_pointer(address, numba.int64), shape)


@numba.njit(inline="always")
def floats_at(address, shape):
    """float32 at an address."""
    return numba.carray(_pointer(address, numba.float32), shape)
