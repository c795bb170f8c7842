"""Histories slice like lists of lists, and refuse interactions at or after their end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import Histories, LeakageError


def histories(lists: list[list[int]], end: int = 1000) -> Histories:
    """Item rows as given; timestamps 0, 1, 2 ... within a user."""
    lengths = [len(one) for one in lists]
    return Histories(
        np.arange(len(lists)) * 10,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([item for one in lists for item in one], np.int32),
        np.array([time for one in lists for time in range(len(one))], np.int64),
        end,
    )


def as_lists(value: Histories) -> list[list[int]]:
    return [value.of(i).tolist() for i in range(len(value))]


LISTS = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=8)


@settings(deadline=None)
@given(lists=LISTS, length=st.integers(0, 7), data=st.data())
def test_take_and_last_equal_slices_of_lists(lists, length, data):
    whole = histories(lists)
    assert as_lists(whole) == lists
    assert as_lists(whole.last(length)) == [one[len(one) - min(length, len(one)) :] for one in lists]
    picks = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9)) if lists else []
    taken = whole.take(np.array(picks, np.int64))
    assert as_lists(taken) == [lists[i] for i in picks]
    assert taken.users.tolist() == [10 * i for i in picks]
    assert taken.end == whole.end


def test_timestamps_follow_their_items():
    newest = histories([[5, 6, 7], [8]]).last(2)
    assert newest.timestamps.tolist() == [1, 2, 0]
    assert newest.items.dtype == np.int32


def test_masks_select_and_unknown_positions_are_errors():
    whole = histories([[1], [2], [3]])
    assert as_lists(whole.take(np.array([True, False, True]))) == [[1], [3]]
    for position in (3, -1):
        with pytest.raises(IndexError, match="there are 3"):
            whole.of(position)


def test_interactions_at_or_after_the_end_are_refused():
    whole = histories([[1, 2, 3]])  # timestamps 0, 1, 2
    whole.guard(3)
    with pytest.raises(LeakageError, match="1 interactions lie at or after"):
        whole.guard(2)
    with pytest.raises(LeakageError):
        histories([[1, 2, 3]], end=2)


def test_inconsistent_offsets_are_refused():
    with pytest.raises(ValueError, match="offsets"):
        Histories(np.arange(2), np.array([0, 1]), np.zeros(1, np.int32), np.zeros(1, np.int64), 9)
    with pytest.raises(ValueError, match="expected 2"):
        Histories(np.arange(1), np.array([0, 2]), np.zeros(1, np.int32), np.zeros(1, np.int64), 9)
