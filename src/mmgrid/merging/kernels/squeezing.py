"""Selecting the magnitudes in an interval, compiled: sixteen at a time on processors with AVX-512."""

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_LANES = 16
_WITHOUT_SIGN = np.uint32(0x7FFFFFFF)
_IS_WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))
_COMPRESS = "llvm.experimental.vector.compress.v16i32"


@intrinsic
def _squeeze_words(typing_context: Any, source: Any, low: Any, width: Any, target: Any) -> Any:
    """Writes the distances to `low` of the magnitudes of 16 words at `source` to `target`, if they are at most `width`.

    Returns the number of such distances. Always writes sixteen words; those after the distances are undefined.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, words = ir.IntType(32), ir.VectorType(ir.IntType(32), _LANES)
        bits, undefined = ir.VectorType(ir.IntType(1), _LANES), ir.Constant(words, ir.Undefined)

        def everywhere(value: Any) -> Any:
            first = builder.insert_element(undefined, value, ir.Constant(word, 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(words, [0] * _LANES))

        values = builder.load(builder.inttoptr(arguments[0], words.as_pointer()))
        values.align = 4
        values = builder.and_(values, ir.Constant(words, [int(_WITHOUT_SIGN)] * _LANES))
        distances = builder.sub(values, everywhere(arguments[1]))
        inside = builder.icmp_unsigned("<=", distances, everywhere(arguments[2]))
        compress = builder.module.globals.get(_COMPRESS) or ir.Function(
            builder.module, ir.FunctionType(words, [words, bits, words]), _COMPRESS
        )
        squeezed = builder.call(compress, [distances, inside, undefined])
        stored = builder.store(squeezed, builder.inttoptr(arguments[3], words.as_pointer()))
        stored.align = 4
        return builder.zext(builder.ctpop(builder.bitcast(inside, ir.IntType(_LANES))), ir.IntType(64))

    return types.int64(types.int64, types.uint32, types.uint32, types.int64), generate


_squeeze: Any = _squeeze_words  # callers omit the typing context


@numba.njit
def squeezed(bits, address, n, low, width, target, target_address, end):
    """Appends the distances to `low` of those of `n` magnitudes that lie in [low, low + width] to `target` at `end`.

    `bits` and `target` are uint32 arrays at the given addresses; signs in `bits` are ignored. Up to 16 words after the
    last distance are overwritten. Returns the new end.
    """
    done = 0
    if _IS_WIDE:
        done = n - n % _LANES
        for i in range(0, done, _LANES):
            end += _squeeze(address + 4 * i, low, width, target_address + 4 * end)
    for i in range(done, n):
        distance = np.uint32((bits[i] & _WITHOUT_SIGN) - low)  # magnitudes below `low` wrap around
        target[end] = distance
        end += distance <= width
    return end
