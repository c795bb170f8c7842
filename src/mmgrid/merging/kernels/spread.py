"""`methods.spread` with the native loops, if there are any."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.kernels.choice import loops
from mmgrid.merging.kernels.layout import SPARE_WORDS
from mmgrid.merging.kernels.tables import address_of
from mmgrid.merging.methods.spread import Spread, Values


class NativeSpread(Spread):
    """The arithmetic, with native loops; with numpy where there are none."""

    def variance(self, runs: Sequence[Floats]) -> Values:
        native = loops()
        if native is None:
            return super().variance(runs)
        addresses, result = _addresses(runs), take(len(runs[0]), np.float64)
        native.variance(address_of(addresses), len(runs), len(result), address_of(result))
        return result

    def between(self, values: Values, low: float, high: float) -> tuple[int, int, Values]:
        native = loops()
        if native is None:
            return super().between(values, low, high)
        bounds, counts = np.array([low, high]), np.zeros(3, np.int64)
        inside = take(len(values) + SPARE_WORDS, np.float64)
        native.between(address_of(values), len(values), address_of(bounds), address_of(inside), address_of(counts))
        return int(counts[0]), int(counts[1]), inside[: counts[2]]

    def squares(self, run: Floats) -> Values:
        native = loops()
        if native is None:
            return super().squares(run)
        block = exact_sums.DOT_BLOCK
        result = np.empty(-(-len(run) // block))
        native.squares(address_of(run), len(run), block, exact_sums.lanes_of(block), address_of(result))
        return result

    def agreed(self, runs: Sequence[Floats], shares: Sequence[float], floor: float) -> Floats:
        native = loops()
        if native is None:
            return super().agreed(runs, shares, floor)
        addresses, result = _addresses(runs), take(len(runs[0]))
        factors = np.array([*shares, floor], np.float64)
        native.agreed(address_of(addresses), len(runs), len(result), address_of(factors), address_of(result))
        return result


def _addresses(runs: Sequence[Floats]) -> np.ndarray:
    return np.array([address_of(run) for run in runs], np.int64)
