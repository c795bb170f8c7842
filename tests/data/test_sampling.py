"""Samples are nested, independent of other ids, and uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import nested_order, nested_sample

IDS = st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=40)


@settings(deadline=None)
@given(ids=IDS, seed=st.integers(0, 5), data=st.data())
def test_a_smaller_sample_is_part_of_a_larger_one(ids, seed, data):
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, 45)] * 2)))
    inner, outer = nested_sample(ids, small, seed, "users"), nested_sample(ids, large, seed, "users")
    assert len(inner) == min(small, len(ids))
    assert set(inner.tolist()) <= set(outer.tolist())
    assert np.all(np.diff(outer) > 0)


@settings(deadline=None)
@given(ids=IDS, seed=st.integers(0, 5), data=st.data())
def test_the_order_of_two_ids_does_not_depend_on_others(ids, seed, data):
    some = data.draw(st.permutations(ids).map(lambda order: order[: 1 + len(order) // 2]))
    ordered = [ids[i] for i in nested_order(ids, seed, "users")]
    assert [some[i] for i in nested_order(some, seed, "users")] == [x for x in ordered if x in set(some)]


def test_seed_and_salt_change_the_sample_and_the_golden_order_stays():
    ids = [f"user {i}" for i in range(1000)]
    first = nested_sample(np.array(ids), 100, 0, "users")
    for other in (nested_sample(ids, 100, 1, "users"), nested_sample(ids, 100, 0, "test users")):
        assert 0 < len(np.intersect1d(first, other)) < 40  # ten are expected by chance
    assert 35 < first.mean() / 1000 * 100 < 65
    # Must never change: published grids specify their samples by size and seed alone.
    assert nested_order(["a", "b", "c", "d", "é"], 0, "users").tolist() == [0, 2, 3, 1, 4]


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        nested_sample(["a"], 0, 0, "users")
    assert nested_sample(["a", "b"], None, 0, "users").tolist() == [0, 1]
