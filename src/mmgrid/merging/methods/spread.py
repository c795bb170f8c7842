"""Arithmetic in float64 over the runs of a tensor's sources: how far they are apart, and what those that agree add up to.

What is here defines the results; `kernels.spread` computes the same bits with native loops.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.exact_sums import block_products, in_blocks
from mmgrid.merging.arrays.floats import Floats

_PIECE = 1 << 15  # elements held in float64 at once, so that they stay in the processor's cache

Values = NDArray[np.float64]


class Spread:
    """The arithmetic, with numpy."""

    def variance(self, runs: Sequence[Floats]) -> Values:
        """The variance of each element over the sources; exactly zero where all are equal."""
        result = np.empty(len(runs[0]))
        for piece in _pieces(len(result)):
            first = runs[0][piece].astype(np.float64)
            away = np.stack([run[piece] - first for run in runs])
            away -= away.mean(axis=0)
            result[piece] = np.square(away, out=away).mean(axis=0)
        return result

    def between(self, values: Values, low: float, high: float) -> tuple[int, int, Values]:
        """The number of values that are not zero, of those above `high`, and the values in [low, high]. All are ≥ 0."""
        inside = values[(values >= low) & (values <= high)]
        return int(np.count_nonzero(values)), int(np.count_nonzero(values > high)), inside

    def squares(self, run: Floats) -> Values:
        """The sum of the squares of each block of elements, for an exact sum."""
        return block_products(in_blocks([run]))[:, 0, 0]

    def agreed(self, runs: Sequence[Floats], shares: Sequence[float], floor: float) -> Floats:
        """Σ sᵢ xᵢ / max(Σ sᵢ, floor) over the sources that agree with the sign of Σ xᵢ, which is positive if it is zero.

        0 where no source agrees.
        """
        result = np.empty(len(runs[0]), np.float32)
        for piece in _pieces(len(result)):
            parts = [run[piece].astype(np.float64) for run in runs]
            sign = np.where(sum(parts) >= 0, 1.0, -1.0)
            agrees = [share * (np.sign(part) == sign) for part, share in zip(parts, shares, strict=True)]
            divisor = np.maximum(sum(agrees), floor)
            above = sum(part * own for part, own in zip(parts, agrees, strict=True))
            result[piece] = np.divide(above, divisor, out=np.zeros(len(divisor)), where=divisor > 0)
        return result


def _pieces(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _PIECE, n)) for start in range(0, n, _PIECE))
