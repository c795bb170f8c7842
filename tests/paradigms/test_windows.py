"""Windows against a slow definition, for arbitrary histories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import LeakageError, Phase
from mmgrid.paradigms.shared.padding import pad_right
from mmgrid.paradigms.shared.windows import windows
from mmgrid.testing.data import make_histories

PHASE = Phase("phase1", 10, 20)
TIMES = st.lists(st.integers(0, 19), max_size=14).map(sorted)


@settings(max_examples=300, deadline=None)
@given(st.lists(TIMES, max_size=5), st.integers(1, 6))
def test_each_target_is_in_one_window_after_its_context(times: list[list[int]], length: int) -> None:
    # Every interaction has its own item, which encodes the user and the position.
    sequences = [[user * 100 + place for place in range(len(row))] for user, row in enumerate(times)]
    found = windows(make_histories(sequences, times), PHASE, length)
    expected = {
        sequence[place]
        for sequence, row in zip(sequences, times, strict=True)
        for place in range(1, len(row))
        if PHASE.start <= row[place] < PHASE.end
    }
    seen: list[int] = []
    for window in range(len(found)):
        sequence, context = found.sequence(window), found.n_context(window)
        assert 1 <= context < len(sequence) <= length + 1
        assert (np.diff(sequence) == 1).all(), "one user's interactions, none left out"
        assert (sequence // 100 == sequence[0] // 100).all()
        seen += sequence[context:].tolist()
    assert sorted(seen) == sorted(expected)
    assert sorted(found.all_items().tolist()) == sorted(
        item for window in range(len(found)) for item in found.sequence(window)
    )


def test_the_newest_target_has_the_longest_history() -> None:
    """Nine interactions, all targets, at most 3 before each: windows end at 9, 6 and 3."""
    found = windows(make_histories([range(9)], [[10] * 9]), PHASE, 3)
    assert [found.sequence(w).tolist() for w in range(len(found))] == [[5, 6, 7, 8], [2, 3, 4, 5], [0, 1, 2]]
    assert [found.n_context(w) for w in range(len(found))] == [1, 1, 1]


def test_items_before_the_phase_are_only_context() -> None:
    found = windows(make_histories([[4, 5, 6, 7]], [[1, 2, 12, 13]]), PHASE, 25)
    assert found.sequence(0).tolist() == [4, 5, 6, 7]
    assert found.n_context(0) == 2


def test_an_interaction_after_the_phase_is_leakage() -> None:
    with pytest.raises(LeakageError, match="1 interactions lie at or after"):
        windows(make_histories([[1, 2]], [[12, 20]]), PHASE, 5)


def test_rows_are_padded_at_the_end() -> None:
    assert pad_right([np.array([1, 2, 3]), np.array([4])]).tolist() == [[1, 2, 3], [4, 0, 0]]
