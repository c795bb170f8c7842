"""Inner products have one order of additions, which is written out here."""

import numpy as np
import pytest

from mmgrid.merging.arrays.exact_sums import DOT_BLOCK, block_products, in_blocks, lanes_of


@pytest.mark.parametrize("size", [1, 70, DOT_BLOCK, DOT_BLOCK + 5])
def test_lanes_add_in_turn_and_are_then_folded(size: int) -> None:
    vectors = np.random.default_rng(size).normal(size=(2, size)).astype(np.float32)
    found = block_products(in_blocks(list(vectors)))
    assert found.shape == (-(-size // DOT_BLOCK), 2, 2)
    for block in range(len(found)):
        one, other = (row[block * DOT_BLOCK : (block + 1) * DOT_BLOCK].astype(float).tolist() for row in vectors)
        lanes = [0.0] * lanes_of(DOT_BLOCK)
        for place, (x, y) in enumerate(zip(one, other, strict=True)):
            lanes[place % len(lanes)] += x * y
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[lane] + lanes[half + lane] for lane in range(half)]
        assert found[block, 0, 1] == found[block, 1, 0] == lanes[0]


def test_blocks_shorter_than_the_lanes() -> None:
    assert lanes_of(4) == 4
    blocked = np.arange(8.0).reshape(1, 2, 4)
    np.testing.assert_array_equal(block_products(blocked)[:, 0, 0], [14.0, 126.0])
