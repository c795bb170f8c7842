"""Codes, scales, masks and compressed bytes: what is written is what is read, and no other choice is better."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgrid.merging.arrays.floats import STORAGE, narrow, widen
from mmgrid.merging.parts import delta, exact, mask, packing

BITS = st.sampled_from(delta.BITS)


def _numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(st.sampled_from(packing.WIDTHS), st.integers(0, 70), st.integers(0, 9))
def test_codes_are_a_stream_of_bits_and_come_back(bits: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, count, dtype=np.uint8)
    packed = packing.pack(codes, bits)
    assert len(packed) == packing.packed_size(count, bits)
    assert packing.unpack(packed, bits)[:count].tolist() == codes.tolist()
    whole = int.from_bytes(packed.tobytes(), "little")
    assert [(whole >> (place * bits)) % 2**bits for place in range(count)] == codes.tolist()


@given(BITS, st.integers(0, 70), st.integers(0, 9))
def test_values_are_the_levels_of_the_codes(bits: int, count: int, seed: int) -> None:
    codes, levels = np.random.default_rng(seed).integers(0, 2**bits, count, dtype=np.uint8), _numbers(seed, 2**bits)
    found = packing.values_of(packing.pack(codes, bits), bits, levels.tobytes())
    assert found[:count].tolist() == levels[codes].tolist()


@given(BITS, st.integers(1, 5), st.integers(1, 40), st.integers(0, 9))
def test_each_code_is_the_nearest_level_and_no_scale_of_the_grid_is_better(
    bits: int, rows: int, columns: int, seed: int
) -> None:
    values = _numbers(seed, rows, columns) * np.float32(1e-3)
    for levels in delta.level_sets(bits):
        codes, scales = delta.encoded(values, levels)
        factor = widen(scales, delta.SCALES).astype(np.float64)[:, None]
        assert (factor > 0).all()
        reached = np.abs(factor * levels.values[codes] - values)
        best = np.abs(factor[:, :, None] * levels.values - values[:, :, None]).min(axis=2)
        assert (reached <= best + factor * 2e-3).all()
        for share in (1.0, 0.85, 0.85**7):
            other = widen(narrow(np.abs(values).max(1) * np.float32(share), delta.SCALES), delta.SCALES)[:, None]
            errors = np.abs(other[:, :, None] * levels.values - values[:, :, None]).min(axis=2)
            assert ((reached**2).sum(1) <= (errors**2).sum(1) * (1 + 1e-3)).all()


@pytest.mark.parametrize(("bits", "error"), [(2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_normal_numbers_have_the_error_of_the_best_quantiser(bits: int, error: float) -> None:
    """The mean squared errors of Max 1960, table 1, for 4, 8 and 16 levels."""
    values = _numbers(0, 64, 4096)
    levels = delta.best_levels(values, bits)
    codes, scales = delta.encoded(values, levels)
    found = widen(scales, delta.SCALES)[:, None] * levels.values[codes]
    assert np.mean((found - values) ** 2) == pytest.approx(error, rel=0.02)


def test_levels_with_a_zero_are_chosen_for_changes_that_are_mostly_zero() -> None:
    values = _numbers(0, 64, 512) * (np.random.default_rng(1).random((64, 512)) < 0.1)
    assert 0 in delta.best_levels(values, 4).values
    assert 0 not in delta.best_levels(_numbers(0, 64, 512), 4).values


@pytest.mark.parametrize("bits", delta.BITS)
def test_rows_of_zeros_and_of_tiny_numbers_are_zero(bits: int) -> None:
    values = np.stack([np.zeros(16), np.full(16, 1e-42), np.full(16, 3.0)]).astype(np.float32)
    for levels in delta.level_sets(bits):
        codes, scales = delta.encoded(values, levels)
        found = widen(scales, delta.SCALES)[:, None] * levels.values[codes]
        assert not found[:2].any()
        np.testing.assert_allclose(found[2], 3.0, rtol=0.01)


@given(
    st.lists(st.integers(1, 6), min_size=0, max_size=3),
    st.one_of(st.none(), st.integers(1, 8)),
    st.data(),
)
def test_any_run_is_scaled_by_the_groups_of_its_elements(shape: list[int], group: int | None, data) -> None:
    grid = delta.Grid.of(shape, group)
    size = int(np.prod(shape))
    scales = np.arange(1, grid.scales + 1, dtype=np.float32)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    first, last = grid.groups_of(start, stop)
    found = delta.times_scales(np.ones(stop - start, np.float32), scales[first:last], grid, start)
    row, column = np.divmod(np.arange(start, stop), shape[-1] if shape else 1)
    assert found.tolist() == scales[row * grid.groups_per_row + column // grid.group].tolist()


def test_masks_as_their_papers_define_them() -> None:
    own, shared = np.array([[1, -2, 3, 0, 1], [2, 2, 3, 1, 0]], np.float32)
    assert mask.emr_mask(own, shared).tolist() == [True, False, True, False, False]
    assert mask.tall_mask(own, shared, 1.0).tolist() == [True, False, True, False, True]
    assert mask.tall_mask(own, shared, 0.4).tolist() == [True, True, True, False, True]


def test_the_scale_of_a_mask_keeps_the_sum_of_magnitudes() -> None:
    base, own, shared = _numbers(0, 50), _numbers(1, 50), _numbers(2, 50)
    chosen = mask.emr_mask(own, shared)
    sums = mask.MaskSums.of(own, shared, chosen)
    sums += mask.MaskSums.of(own, shared, chosen)
    found = mask.masked(base, base + shared, chosen.astype(np.uint8), sums.scale)
    assert np.abs(found - base).sum() == pytest.approx(np.abs(own).sum(), rel=1e-5)
    assert (found[~chosen] == base[~chosen]).all()
    assert mask.MaskSums(1.0, 0.0).scale == 0


@given(st.sampled_from(sorted(STORAGE)), st.integers(0, 40), st.booleans(), st.integers(0, 9))
def test_every_byte_comes_back(dtype: str, count: int, near: bool, seed: int) -> None:
    kind, rng = STORAGE[dtype], np.random.default_rng(seed)
    one, other = (rng.bytes(count * kind.itemsize) for _ in range(2))
    stored, reference = np.frombuffer(one, kind), np.frombuffer(other, kind) if near else None
    block = exact.compressed(stored, reference)
    assert exact.restored(block, count, kind, reference).tobytes() == one


def test_close_values_take_fewer_bytes_than_the_values() -> None:
    base = _numbers(0, 1 << 14)
    stored, near = (narrow(x, "bfloat16") for x in (base, base + _numbers(1, 1 << 14) * np.float32(0.003)))
    assert len(exact.compressed(near, stored)) < 0.8 * len(exact.compressed(near, None)) < near.nbytes


@pytest.mark.parametrize("place", [0, 5, 40, -1])
def test_a_damaged_block_is_noticed(place: int) -> None:
    stored = np.zeros(1 << 12, np.float32)
    block = bytearray(exact.compressed(stored, None))
    block[place] ^= 0x55
    with pytest.raises(exact.BrokenBlockError):
        exact.restored(bytes(block), len(stored), stored.dtype, None)
    with pytest.raises(exact.BrokenBlockError):
        exact.restored(bytes(block[:9]), len(stored), stored.dtype, None)
