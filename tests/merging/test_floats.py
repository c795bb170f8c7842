"""Floating-point types in numpy, bit for bit as in torch."""

import numpy as np
import pytest
import torch

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.floats import LARGEST, STORAGE, is_float, largest, magnitudes, narrow, widen, width

NARROW = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]


def _as_torch(stored: np.ndarray, dtype: str) -> torch.Tensor:
    return torch.from_numpy(stored.view(f"i{stored.itemsize}").copy()).view(getattr(torch, dtype))


def _all_patterns(dtype: str) -> np.ndarray:
    bits = 8 * width(dtype)
    return np.arange(2**bits, dtype=f"u{bits // 8}").view(STORAGE[dtype])


@pytest.mark.parametrize("dtype", NARROW)
def test_every_value_widens_as_in_torch(dtype: str) -> None:
    stored = _all_patterns(dtype)
    expected = _as_torch(stored, dtype).float().numpy()
    np.testing.assert_array_equal(widen(stored, dtype), expected)
    finite = np.isfinite(expected)
    assert np.signbit(widen(stored, dtype)[finite]).tolist() == np.signbit(expected[finite]).tolist()
    assert LARGEST[dtype] == expected[finite].max()


@pytest.mark.parametrize("dtype", NARROW)
def test_rounds_to_nearest_ties_to_even(dtype: str) -> None:
    """Every value, every midpoint between two neighbours, and the values next to each midpoint; as in torch."""
    values = widen(_all_patterns(dtype), dtype)
    values = np.unique(values[np.isfinite(values)])
    halves = ((values[1:].astype(np.float64) + values[:-1]) / 2).astype(np.float32)
    infinity = np.float32(np.inf)
    near = [np.nextafter(halves, side) for side in (infinity, -infinity)]
    random = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 10
    every = np.concatenate([values, halves, *near, random, np.array([0.0, -0.0, 1e-44, -1e-44], np.float32)])
    expected = torch.from_numpy(every).to(getattr(torch, dtype))
    ours = _as_torch(narrow(every, dtype), dtype)
    assert ours.view(torch.uint8).equal(expected.view(torch.uint8))


def test_float64_and_float32() -> None:
    values = np.array([1.5, -0.0, 1e-300, 3e38, 1 + 2**-30])
    assert widen(values, "float64").tolist() == values.astype(np.float32).tolist()
    assert np.isinf(widen(np.array([1e300]), "float64")).all(), "refused later, with the tensor's name"
    single = np.array([1.5, -0.0], np.float32)
    assert widen(single, "float32") is single
    assert narrow(single, "float32") is single
    assert narrow(single, "float64").dtype == np.float64


def test_magnitudes_sort_like_absolute_values() -> None:
    values = np.array([0.0, -1e-45, 1e-40, -1.0, 1.0000001, -3e38], np.float32)
    bits = magnitudes(values)
    assert bits.tolist() == sorted(bits.tolist())
    assert magnitudes(np.array([-2.5, 2.5, -0.0], np.float32)).tolist() == [
        *[int(np.float32(2.5).view(np.uint32))] * 2,
        0,
    ]
    assert largest(values) == np.float32(3e38)
    assert largest(values[:0]) == 0
    assert np.isnan(largest(np.array([1, np.nan, np.inf], np.float32)))
    assert largest(np.array([1, -np.inf], np.float32)) == np.inf


def test_buffers_are_reused_without_overwriting_results() -> None:
    """Within a frame, no call overwrites the result of an earlier one; the next frame reuses the buffers."""
    stored = [np.full(5, number, np.uint16) << 7 for number in (1, 2, 3)]
    expected = [widen(one, "bfloat16").tolist() for one in stored]
    for _ in range(2):
        with frame():
            assert [array.tolist() for array in [widen(one, "bfloat16") for one in stored]] == expected
            with frame():
                inner = widen(stored[2], "bfloat16")
                assert inner.tolist() == expected[2]


def test_floating_point_types() -> None:
    assert [name for name in STORAGE if is_float(name)] == list(LARGEST)
    assert {name: width(name) for name in STORAGE} == {
        name: torch.empty(0, dtype=getattr(torch, name)).element_size() for name in STORAGE
    }
