"""Collisions: the moves equal those of a plain loop, codes that do not collide stay, the rest is counted."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.semantic_ids import collisions
from mmgrid.semantic_ids.collisions import Collisions, code_keys, count_collisions, resolve_collisions, shares_code


@dataclass(frozen=True)
class Line:
    """A codebook on a line, with small whole numbers as distances: ties are exact and frequent.

    An item's vector is one number; last code c lies at c, the earlier codes move nothing.
    """

    codes: int

    def last_level_distances(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        assert len(vectors) == len(codes)
        return np.square(vectors[:, :1] - np.arange(self.codes)).astype(np.float32)


def _plainly(codebook: Line, vectors: np.ndarray, codes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The rule of the module's docstring as a plain loop."""
    result = [tuple(row) for row in codes.tolist()]
    before = {tuple(row) for row in taken.tolist()}
    distances = codebook.last_level_distances(vectors, codes).tolist()

    def own(item: int) -> tuple[float, int]:
        return distances[item][codes[item, -1]], item

    keepers = set()
    for code in set(result) - before:
        keepers.add(min((item for item in range(len(codes)) if result[item] == code), key=own))
    occupied = before | set(result)
    for item in sorted(set(range(len(codes))) - keepers, key=own):
        prefix = result[item][:-1]
        free = [last for last in range(codebook.codes) if (*prefix, last) not in occupied]
        if free:
            result[item] = (*prefix, min(free, key=lambda last: (distances[item][last], last)))
            occupied.add(result[item])
    return np.array(result, np.int32).reshape(codes.shape)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Line, np.ndarray, np.ndarray, np.ndarray]:
    levels, codes = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, m = draw(st.integers(0, 40)), draw(st.integers(0, 15))
    vectors = rng.integers(0, codes, (n, 1)).astype(np.float32)
    return (
        Line(codes),
        vectors,
        rng.integers(0, codes, (n, levels)).astype(np.int32),
        rng.integers(0, codes, (m, levels)).astype(np.int32),
    )


@settings(max_examples=300, deadline=None)
@given(_cases(), st.sampled_from([1, 3, 10_000]))
def test_items_move_like_in_a_plain_loop(case: tuple, at_once: int) -> None:
    codebook, vectors, codes, taken = case
    before = codes.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collisions, "MOVERS_AT_ONCE", at_once)
        separated = resolve_collisions(codebook, vectors, codes, taken)
    assert separated.tolist() == _plainly(codebook, vectors, codes, taken).tolist()
    assert separated.dtype == np.int32
    assert np.array_equal(codes, before), "the codes given stay as they are"


@settings(max_examples=200, deadline=None)
@given(_cases())
def test_items_share_a_code_only_if_the_prefix_is_full(case: tuple) -> None:
    codebook, vectors, codes, taken = case
    taken = np.unique(taken, axis=0)
    separated = resolve_collisions(codebook, vectors, codes, taken)
    everybody = np.concatenate([separated, taken])
    assert np.array_equal(separated[:, :-1], codes[:, :-1]), "only last codes change"
    for row in np.flatnonzero(shares_code(everybody, codebook.codes)).tolist():
        same = (everybody[:, :-1] == everybody[row, :-1]).all(axis=1)
        assert len(np.unique(everybody[same, -1])) == codebook.codes


@settings(max_examples=200, deadline=None)
@given(_cases())
def test_items_without_a_collision_stay(case: tuple) -> None:
    codebook, vectors, codes, taken = case
    separated = resolve_collisions(codebook, vectors, codes, taken)
    alone = ~shares_code(np.concatenate([codes, taken]), codebook.codes)[: len(codes)]
    assert np.array_equal(separated[alone], codes[alone])
    again = resolve_collisions(codebook, vectors, separated)
    settled = ~shares_code(separated, codebook.codes)
    assert np.array_equal(again[settled], separated[settled]), "what is settled is not moved again"


def test_collisions_in_a_full_prefix_are_counted() -> None:
    """Three items on two codes: one of each code's items is alone at best, and nobody is lost."""
    codes = np.zeros((3, 2), np.int32)
    separated = resolve_collisions(Line(2), np.array([[0.0], [1.0], [0.0]], np.float32), codes)
    assert separated.tolist() == [[0, 0], [0, 0], [0, 1]]
    assert count_collisions(separated, 2) == Collisions(items=2, codes=1)
    assert count_collisions(codes, 2).as_json() == {"items": 3, "codes": 1}
    assert count_collisions(codes[:0], 2) == Collisions(0, 0)


def test_many_movers_in_one_prefix_fill_it() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.uniform(0, 256, (400, 1)).astype(np.float32)
    codes = np.zeros((400, 4), np.int32)
    codes[300:, 0] = 1  # another prefix, with room for all
    separated = resolve_collisions(Line(256), vectors, codes)
    assert len(np.unique(separated[:300], axis=0)) == 256
    assert len(np.unique(separated[300:], axis=0)) == 100
    assert count_collisions(separated, 256) == Collisions(items=45, codes=1), (
        "44 found none and stay with the one that kept it"
    )


def test_code_keys_are_unique() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert code_keys(grid, 3).tolist() == list(range(27))
    largest = np.full((1, 4), 255)
    assert code_keys(largest, 256).tolist() == [2**32 - 1]
