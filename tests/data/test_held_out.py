"""Test users, their targets and histories, and which of them are active."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import NoTestUsersError, filter_interactions, held_out_users

ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.integers(0, 140)), min_size=1, max_size=60
)


@settings(deadline=None)
@given(rows=ROWS, target=st.sampled_from(["test", "phase2"]))
def test_held_out_users_match_their_definition(make_raw, calendar, rows, target):
    corpus = filter_interactions(make_raw(rows), min_interactions=1).corpus
    phase, before = (calendar.test, calendar.phase2) if target == "test" else (calendar.phase2, calendar.phase1)
    expected = {}
    for row, user in enumerate(corpus.user_ids.tolist()):
        mine = (corpus.users == row) & (corpus.timestamps < phase.end)
        items, times = corpus.items[mine].tolist(), corpus.timestamps[mine].tolist()
        if len(items) > 1 and times[-1] >= phase.start:
            active = any(before.start <= time < before.end for time in times[:-1])
            expected[user] = (items[:-1], items[-1], active)
    if not expected:
        with pytest.raises(NoTestUsersError):
            held_out_users(corpus, calendar, target)
        return
    result = held_out_users(corpus, calendar, target)
    found = {
        str(user): (result.histories.of(i).tolist(), int(result.targets[i]), bool(result.active[i]))
        for i, user in enumerate(result.user_ids)
    }
    assert found == expected
    assert result.histories.end == phase.end
    assert result.targets.dtype == np.int64
    assert corpus.user_ids[result.histories.users].tolist() == result.user_ids.tolist()


def test_samples_of_test_users_are_nested(make_raw, calendar):
    rows = [(f"user{u}", f"item{i}", 100 + 5 * i) for u in range(40) for i in range(6)]
    corpus = filter_interactions(make_raw(rows)).corpus
    few, many = (set(held_out_users(corpus, calendar, max_users=size, seed=3).user_ids.tolist()) for size in (7, 20))
    assert len(few) == 7
    assert few < many
    assert len(held_out_users(corpus, calendar, max_users=99)) == 40


def test_without_test_users_the_error_names_domain_phase_and_times(make_raw, calendar):
    corpus = filter_interactions(make_raw([("a", "x", 1), ("a", "y", 2)]), min_interactions=1).corpus
    with pytest.raises(
        NoTestUsersError, match=r"made: no test users.*test \[1970-.*\.120, .*\.130\).*00\.001 to .*00\.002"
    ):
        held_out_users(corpus, calendar)
    with pytest.raises(ValueError, match="target 'phase1'"):
        held_out_users(corpus, calendar, "phase1")
