import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.evaluation import NOT_RANKED, list_ranks, ranking, target_ranks


def by_sorting(scores, targets, excluded, candidates):
    """The rank by its definition: sort one user's eligible items, and look for the target."""
    ranks = []
    for user, target in enumerate(targets):
        eligible = [i for i in range(scores.shape[1]) if candidates[i] and not excluded[user, i]]
        eligible.sort(key=lambda item: (-scores[user, item], item))
        ranks.append(eligible.index(target) if target in eligible else NOT_RANKED)
    return ranks


def world(seed, users=9, items=17, levels=4):
    draw = np.random.default_rng(seed)
    scores = draw.integers(levels, size=(users, items)).astype(np.float32)  # few levels: many ties
    scores[draw.random(scores.shape) < 0.05] = -np.inf
    targets = draw.integers(items, size=users)
    excluded = draw.random(scores.shape) < 0.3
    candidates = draw.random(items) < 0.8
    return scores, targets, excluded, candidates


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_equals_sorting_with_ties_history_and_candidates(seed):
    scores, targets, excluded, candidates = world(seed)
    expected = by_sorting(scores, targets, excluded, candidates)
    assert target_ranks(scores, targets, excluded, candidates).tolist() == expected
    pairs = np.nonzero(excluded)
    shuffle = np.random.default_rng(seed).permutation(len(pairs[0]))
    pairs = (pairs[0][shuffle], pairs[1][shuffle])
    assert target_ranks(scores, targets, pairs, candidates).tolist() == expected


def test_the_lower_row_comes_first_among_equal_scores():
    scores = np.zeros((4, 4), np.float32)
    assert target_ranks(scores, np.arange(4)).tolist() == [0, 1, 2, 3]


def test_a_masked_target_and_one_that_is_no_candidate_are_not_ranked():
    scores = np.array([[3.0, 2.0, 1.0]] * 3, np.float32)
    candidates = np.array([True, True, False])
    history = (np.array([1]), np.array([1]))
    assert target_ranks(scores, np.array([1, 1, 2]), history, candidates).tolist() == [
        1,
        NOT_RANKED,
        NOT_RANKED,
    ]


def test_blocks_do_not_show(monkeypatch):
    scores, targets, excluded, candidates = world(3, users=23)
    whole = target_ranks(scores, targets, np.nonzero(excluded), candidates)
    monkeypatch.setattr(ranking, "_BLOCK_ELEMENTS", 40)
    assert target_ranks(scores, targets, np.nonzero(excluded), candidates).tolist() == whole.tolist()
    assert target_ranks(scores, targets, excluded, candidates).tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([[0.0, 1.0], [np.nan, 1.0]], np.float32)}, "NaN for the user at position 1"),
        ({"scores": np.zeros(2, np.float32)}, "two dimensions"),
        ({"targets": np.array([0])}, "targets: expected shape"),
        ({"targets": np.array([0, 2])}, "targets: rows must lie in"),
        ({"targets": np.array([0, -1])}, "targets: rows must lie in"),
        ({"targets": np.array([0.0, 1.0])}, "targets: expected integers"),
        ({"excluded": (np.array([2]), np.array([0]))}, "excluded users"),
        ({"excluded": (np.array([1]), np.array([5]))}, "excluded items"),
        ({"excluded": np.zeros((2, 3), bool)}, "excluded: expected bool"),
        ({"candidates": np.array([0, 1])}, "candidates: expected bool"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"scores": np.zeros((2, 2), np.float32), "targets": np.array([0, 1])} | change
    with pytest.raises(ValueError, match=message):
        target_ranks(**given)


def test_no_users_give_no_ranks():
    assert target_ranks(np.zeros((0, 5), np.float32), np.empty(0, np.int64)).shape == (0,)


def test_rank_within_a_returned_list():
    items = np.array([[4, 2, 9], [4, 2, -1], [1, 1, 1]])
    assert list_ranks(items, np.array([9, 9, 1])).tolist() == [2, NOT_RANKED, 0]
    assert list_ranks(items[:, :0], np.array([9, 9, 1])).tolist() == [NOT_RANKED] * 3
