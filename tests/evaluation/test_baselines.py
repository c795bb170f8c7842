import numpy as np
import pytest

from kits.ranks import in_histories, ranks_by_sorting
from mmgrid.evaluation import NOT_RANKED, popularity_ranks, random_ranks


def histories(seed, users=40, items=25):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 8, size=users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return draw.integers(items, size=users), offsets, draw.integers(items, size=offsets[-1])


@pytest.mark.parametrize("with_candidates", [False, True])
def test_popularity_equals_ranking_by_counts(with_candidates):
    targets, offsets, items = histories(1)
    draw = np.random.default_rng(2)
    counts = draw.integers(4, size=25)  # many ties
    candidates = draw.random(25) < 0.7 if with_candidates else None
    scores = np.tile(counts.astype(np.float32), (40, 1))
    expected = ranks_by_sorting(scores, targets, in_histories(offsets, items, 25), candidates)
    assert (expected == NOT_RANKED).any()
    assert popularity_ranks(counts, targets, offsets, items, candidates).tolist() == expected.tolist()


def test_random_is_uniform_over_the_eligible_items_of_a_user():
    users, items = 4000, 10
    targets = np.full(users, 5)
    offsets = np.arange(users + 1) * 2
    history = np.tile([0, 1], users)
    candidates = np.arange(items) != 9
    ids = [f"user {i}" for i in range(users)]
    ranks = random_ranks(ids, targets, offsets, history, items, candidates, seed=0)
    counts = np.bincount(ranks, minlength=7)
    assert len(counts) == 7  # ten items less two of the history less one that is no candidate
    assert (abs(counts - users / 7) < 5 * np.sqrt(users / 7)).all()


def test_random_depends_on_the_user_and_not_on_the_position():
    targets, offsets, items = np.array([3, 4, 5]), np.zeros(4, np.int64), np.empty(0, np.int64)
    ids = np.array(["a", "b", "c"])
    ranks = random_ranks(ids, targets, offsets, items, 1000, seed=7)
    turned = random_ranks(ids[::-1], targets[::-1], offsets, items, 1000, seed=7)
    assert ranks.tolist() == turned[::-1].tolist()
    assert ranks.tolist() != random_ranks(ids, targets, offsets, items, 1000, seed=8).tolist()


def test_a_target_that_cannot_be_recommended_is_not_ranked():
    candidates = np.array([True, True, False])
    targets, offsets, items = np.array([0, 1, 2]), np.array([0, 0, 1, 1]), np.array([1])
    expected = [False, True, True]
    popular = popularity_ranks(np.array([3, 2, 1]), targets, offsets, items, candidates)
    drawn = random_ranks(["x", "y", "z"], targets, offsets, items, 3, candidates, seed=0)
    assert (popular == NOT_RANKED).tolist() == expected
    assert (drawn == NOT_RANKED).tolist() == expected


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match="offsets"):
        popularity_ranks(np.ones(3, int), np.array([0]), np.array([0, 2]), np.array([1]))
    with pytest.raises(ValueError, match="history items"):
        popularity_ranks(np.ones(3, int), np.array([0]), np.array([0, 1]), np.array([3]))
    with pytest.raises(ValueError, match="one id per target"):
        random_ranks([], np.array([0]), np.array([0, 0]), np.empty(0, int), 3, seed=0)
