"""Reassignment separates colliding items by balanced assignment; items that still collide return to their code."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.semantic_ids.codewords import Codewords
from mmgrid.semantic_ids.collisions import shares_code
from mmgrid.semantic_ids.reassignment import reassign_collisions
from mmgrid.semantic_ids.recipes import RqVaeRecipe

RECIPE = RqVaeRecipe(levels=2, codes=4, reassign_rounds=4)


def _codewords(last: list[list[float]]) -> Codewords:
    words = np.zeros((2, 4, 2), np.float32)
    words[0] = [[0, 0], [100, 0], [0, 100], [100, 100]]
    words[1] = last
    return Codewords(words, np.array([4, 4]))


CROSS = _codewords([[3, 0], [-3, 0], [0, 3], [0, -3]])


def test_items_of_one_code_are_separated() -> None:
    """All four are nearest to the rightmost codeword, though each leans towards another one."""
    vectors = np.array([[2, 0], [0.5, 0], [0.6, 0.4], [0.6, -0.4]], np.float32)
    codes = CROSS.encode(vectors)
    assert codes.tolist() == [[0, 0]] * 4
    assert reassign_collisions(CROSS, vectors, codes, RECIPE).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_equal_items_cannot_be_separated_and_return() -> None:
    vectors = np.array([[2, 0]] * 3 + [[98, 3]], np.float32)
    codes = CROSS.encode(vectors)
    assert np.array_equal(reassign_collisions(CROSS, vectors, codes, RECIPE), codes)


def test_no_rounds_or_no_balance_change_nothing() -> None:
    vectors = np.array([[2, 0], [1, 0]], np.float32)
    codes = CROSS.encode(vectors)
    for values in ({"reassign_rounds": 0}, {"sinkhorn_epsilon": 0}):
        assert np.array_equal(reassign_collisions(CROSS, vectors, codes, RECIPE.model_copy(update=values)), codes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40))
def test_items_without_a_collision_stay(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    codewords = _codewords(rng.normal(size=(4, 2)).tolist())
    vectors = (rng.integers(2, size=(n, 2)) * 100 + rng.normal(size=(n, 2))).astype(np.float32)
    codes = codewords.encode(vectors)
    before = codes.copy()
    parted = reassign_collisions(codewords, vectors, codes, RECIPE)
    assert np.array_equal(codes, before)
    assert np.array_equal(parted[:, 0], codes[:, 0]), "only last codes change"
    crowded = np.unique(codes[shares_code(codes, 4), 0])
    quiet = ~np.isin(codes[:, 0], crowded)
    assert np.array_equal(parted[quiet], codes[quiet])
    assert np.array_equal(parted, reassign_collisions(codewords, vectors, codes, RECIPE))
