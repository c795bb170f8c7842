"""Targets of text and semid: which interactions they are, and the context of each."""

import numpy as np
import pytest

from mmgrid.data import Histories, LeakageError, Phase
from mmgrid.paradigms.shared.targets import Targets, targets
from mmgrid.testing.data import make_histories

PHASE = Phase("phase1", 100, 200)


def _pairs(found: Targets) -> list[tuple[int, int]]:
    return list(zip(found.users.tolist(), found.places.tolist(), strict=True))


def _many(n_users: int = 40, length: int = 12) -> Histories:
    return make_histories([range(length)] * n_users, [range(100, 100 + length)] * n_users)


def test_a_target_lies_in_the_phase_and_has_enough_earlier_items() -> None:
    histories = make_histories(
        [[5, 6, 7, 8], [1, 2], [], [3, 4, 5], [9, 8, 7]],
        [[50, 99, 100, 199], [150, 160], [], [10, 20, 30], [99, 99, 100]],
    )
    found = targets(histories, PHASE, earlier=2, most_per_user=None, seed=0)
    assert _pairs(found) == [(0, 2), (0, 3), (4, 2)]
    assert [found.item(index) for index in range(3)] == [7, 8, 7]
    assert len(targets(histories, PHASE, earlier=1, most_per_user=None, seed=0)) == 4, "and the second one of user 1"
    assert len(targets(histories, PHASE, earlier=4, most_per_user=None, seed=0)) == 0


def test_the_context_is_the_newest_earlier_items() -> None:
    found = targets(
        make_histories([[4, 3], [5, 6, 7, 8]]), Phase("pretrain", 0, 9), earlier=1, most_per_user=None, seed=0
    )
    assert _pairs(found) == [(0, 1), (1, 1), (1, 2), (1, 3)]
    assert [found.context(index, 2).tolist() for index in range(4)] == [[4], [5], [5, 6], [6, 7]]
    assert found.context(3, 9).dtype == np.int64
    assert found.context(3, 9).tolist() == [5, 6, 7], "no items of the previous user"


def test_users_with_more_targets_get_a_sample() -> None:
    histories = _many()
    whole = targets(histories, PHASE, earlier=4, most_per_user=None, seed=0)
    drawn = targets(histories, PHASE, earlier=4, most_per_user=5, seed=0)
    assert (np.bincount(whole.users) == 8).all()
    assert (np.bincount(drawn.users) == 5).all()
    assert _pairs(drawn) == sorted(set(_pairs(drawn))), "each once, in order"
    assert set(_pairs(drawn)) < set(_pairs(whole))
    few = targets(histories, PHASE, earlier=9, most_per_user=5, seed=0)
    assert (np.bincount(few.users) == 3).all(), "users with fewer targets keep all"


def test_the_sample_depends_on_the_seed_and_is_uniform() -> None:
    one, again, other = (_pairs(targets(_many(), PHASE, earlier=4, most_per_user=2, seed=seed)) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    places = targets(_many(400), PHASE, earlier=4, most_per_user=2, seed=0).places
    counts = np.bincount(places, minlength=12)[4:]
    assert ((counts - 100) ** 2 / 100).sum() < 24, "the 99.9 % point for 7 degrees of freedom"


def test_an_interaction_at_the_phases_end_is_leakage() -> None:
    histories = make_histories([[1, 2, 3]], [[100, 150, 200]])
    with pytest.raises(LeakageError, match="1 interactions lie at or after"):
        targets(histories, PHASE, earlier=1, most_per_user=None, seed=0)
