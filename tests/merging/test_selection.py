"""The largest values of a quantity are selected exactly, wherever the sample says that the threshold is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods import selection
from mmgrid.merging.methods.passes import Passes
from mmgrid.merging.methods.selection import select_largest
from mmgrid.merging.methods.spread import Spread
from mmgrid.merging.methods.stages.base import share_of


class _InMemory(Passes):
    """Passes over one array in runs of `length`."""

    def __init__(self, values: Floats, length: int) -> None:
        self.values, self.length, self.size, self.n_passes = values, length, len(values), 0
        self.spread = Spread()

    def each(self, work: Callable[[int, Sequence[Floats]], Any], *, every: int = 1) -> list[Any]:
        self.n_passes += every == 1
        runs = [(start, self.values[start : start + self.length]) for start in range(0, self.size, self.length)]
        return [work(start, [run[: max(len(run) // every, 1)]]) for start, run in runs]


def _selected(passes: _InMemory, share: float) -> np.ndarray:
    found = select_largest(passes, lambda runs: runs[0].astype(np.float64), share)
    runs = range(0, passes.size, passes.length)
    return np.concatenate([found.of(at, passes.values[at : at + passes.length].astype(np.float64)) for at in runs])


def _expected(values: Floats, share: float) -> np.ndarray:
    rank = share_of(share, int(np.count_nonzero(values)))
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values, kind="stable")[:rank]] = True
    return chosen


@given(
    values=st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0, 1e-30, 1e30]), min_size=1, max_size=60),
    length=st.integers(1, 60),
    hundredths=st.integers(0, 100),
    sampled=st.booleans(),
)
def test_exactly_the_largest_and_of_equal_ones_the_first(
    values: list[float], length: int, hundredths: int, sampled: bool
) -> None:
    array, share = np.array(values, np.float32), hundredths / 100
    with pytest.MonkeyPatch.context() as patch:
        if sampled:
            patch.setattr(selection, "_SAMPLED_FROM", 0)
            patch.setattr(selection, "_SAMPLE", 3)
        found = _selected(_InMemory(array, length), share)
    assert found.tolist() == _expected(array, share).tolist()


@pytest.mark.parametrize(("share", "n_passes"), [(0.1, 1), (0.5, 1), (0.999, 1)])
def test_a_fair_sample_needs_one_pass(share: float, n_passes: int) -> None:
    passes = _InMemory(np.random.default_rng(0).random(1 << 17, np.float32), 1 << 13)
    assert _selected(passes, share).tolist() == _expected(passes.values, share).tolist()
    assert passes.n_passes == n_passes


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_a_misleading_sample_needs_another(size: float) -> None:
    values = np.random.default_rng(0).random(1 << 17, np.float32)
    passes = _InMemory(values, 1 << 13)
    for start in range(0, len(values), passes.length):
        values[start : start + passes.length // 64] *= size  # the sample
    for share in (0.01, 0.5):
        assert _selected(passes, share).tolist() == _expected(values, share).tolist()
    assert passes.n_passes > 2
