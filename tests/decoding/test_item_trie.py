"""The trie holds every item once, under its codes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.decoding.trie import ItemTrie

TOKENS = np.arange(100, 100 + 3 * 5).reshape(3, 5)


def walked(trie: ItemTrie) -> dict[tuple[int, ...], list[int]]:
    """Codes → items, found by descending from the root as a beam does."""
    found: dict[tuple[int, ...], int] = {(): 0}
    for level in trie.levels:
        found = {
            (*prefix, int(level.codes[child])): child
            for prefix, node in found.items()
            for child in range(int(level.first[node]), int(level.first[node + 1]))
        }
    first = trie.first_item.tolist()
    return {codes: trie.items[first[leaf] : first[leaf + 1]].tolist() for codes, leaf in found.items()}


def grouped(codes: np.ndarray, rows: list[int]) -> dict[tuple[int, ...], list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        groups.setdefault(tuple(codes[row].tolist()), []).append(row)
    return groups


tables = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=60).map(lambda rows: np.array(rows))


@settings(deadline=None)
@given(codes=tables, data=st.data())
def test_holds_every_item_under_its_codes(codes: np.ndarray, data) -> None:
    without = data.draw(st.sets(st.integers(0, len(codes) - 1), max_size=len(codes) - 1))
    codes = codes.copy()
    codes[sorted(without)] = -1
    rows = [row for row in range(len(codes)) if row not in without]
    trie = ItemTrie(codes, TOKENS)
    assert walked(trie) == grouped(codes, rows)
    assert len(trie) == len(rows)
    assert trie.n_leaves == len(grouped(codes, rows))
    assert trie.most_items == max(map(len, grouped(codes, rows).values()))
    for level, above in zip(trie.levels[1:], trie.levels, strict=False):
        assert level.parents.tolist() == sorted(level.parents.tolist())
        assert len(level.first) == len(above.codes) + 1
    assert [int(leaf) >= 0 for leaf in trie.leaves] == [row not in without for row in range(len(codes))]


@settings(deadline=None)
@given(codes=tables)
def test_codes_too_long_for_one_number_are_sorted_in_the_same_order(codes: np.ndarray) -> None:
    narrow = ItemTrie(codes, TOKENS)
    wide = ItemTrie(np.tile(codes, (1, 8)), np.tile(TOKENS, (8, 1)))  # 72 bits, and the same order
    assert narrow.items.tolist() == wide.items.tolist()
    assert walked(narrow) == {wide_codes[:3]: items for wide_codes, items in walked(wide).items()}


def test_holds_only_the_requested_items() -> None:
    codes = np.array([[0, 1, 2], [0, 1, 2], [3, 0, 0]])
    trie = ItemTrie(codes, TOKENS, items=np.array([1, 2]))
    assert walked(trie) == {(0, 1, 2): [1], (3, 0, 0): [2]}
    assert trie.leaves.tolist() == [-1, 0, 1]
    assert trie.collisions == 0


@pytest.mark.parametrize(
    ("codes", "tokens", "message"),
    [
        (np.zeros((2, 4), int), TOKENS, r"codes \[2, 4\] and level_tokens \[3, 5\]"),
        (np.zeros((2, 3)), TOKENS, "float64 .* whole numbers"),
        (np.array([[0, 0, 0], [1, 5, 2]]), TOKENS, r"item 1 has the codes \[1, 5, 2\], but a level has 5"),
        (np.array([[0, -1, 0]]), TOKENS, r"item 0 has an incomplete code, \[0, -1, 0\]"),
        (np.full((2, 3), -1), TOKENS, "no item has a code"),
    ],
)
def test_invalid_codes_are_refused(codes: np.ndarray, tokens: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemTrie(codes, tokens)


@pytest.mark.parametrize("row", [-1, 2])
def test_an_unknown_item_row_is_refused(row: int) -> None:
    with pytest.raises(ValueError, match=f"item row {row}: out of range; there are codes for 2 items"):
        ItemTrie(np.array([[0, 1, 2], [3, 0, 0]]), TOKENS, items=np.array([0, row]))
