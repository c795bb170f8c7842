import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kits.ranks import ranks_by_sorting
from mmgrid.evaluation import NOT_RANKED, list_ranks, target_ranks


def world(seed, users=9, items=17, levels=4):
    draw = np.random.default_rng(seed)
    scores = draw.integers(levels, size=(users, items)).astype(np.float32)  # few levels: many ties
    return scores, draw.integers(items, size=users), draw.random(scores.shape) < 0.3


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([np.asarray, torch.from_numpy]))
def test_equals_sorting_whatever_holds_the_scores(seed, array):
    scores, targets, excluded = world(seed)
    expected = ranks_by_sorting(scores, targets, excluded)
    masked = array(np.where(excluded, -np.inf, scores).astype(np.float32))
    target = targets[:, None]
    own = array(np.take_along_axis(np.asarray(masked), target, axis=1))
    lower_rows = array(np.arange(scores.shape[1]) < target)
    found = target_ranks(masked, own, lambda equal: equal & lower_rows)
    assert np.asarray(found).tolist() == expected.tolist()


def test_the_tie_order_decides_among_equal_scores():
    scores = np.zeros((2, 4))
    own = np.zeros((2, 1))
    assert target_ranks(scores, own, lambda equal: equal & False).tolist() == [0, 0]
    assert target_ranks(scores, own, lambda equal: equal).tolist() == [4, 4]


def test_a_target_that_may_not_be_recommended_is_not_ranked():
    scores = np.array([[1.0, -np.inf], [1.0, 2.0]])
    own = np.array([[-np.inf], [1.0]])
    assert target_ranks(scores, own, lambda equal: equal & False).tolist() == [NOT_RANKED, 1]


def test_no_users_give_no_ranks():
    assert target_ranks(np.zeros((0, 5)), np.zeros((0, 1)), lambda equal: equal).shape == (0,)


def test_rank_within_a_returned_list():
    items = np.array([[4, 2, 9], [4, 2, -1], [1, 1, 1]])
    assert list_ranks(items, np.array([9, 9, 1])).tolist() == [2, NOT_RANKED, 0]
    assert list_ranks(items[:, :0], np.array([9, 9, 1])).tolist() == [NOT_RANKED] * 3


def test_a_list_of_other_users_is_refused():
    with pytest.raises(ValueError, match=r"items \(2, 3\) and targets \(3,\)"):
        list_ranks(np.zeros((2, 3), int), np.zeros(3, int))
