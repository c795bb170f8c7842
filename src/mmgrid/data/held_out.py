"""Who is tested on what: the last interaction of each user whose last one lies in the target phase.

Everything before it is the user's history, interactions of the target phase included.  `target="phase2"` asks
the same question one phase earlier, on the data before t2: the only place where anything may be tuned.
"""

# ruff: noqa: PT028 - `test_set` makes one, and is none.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmgrid.data.calendar import Calendar, format_time
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import NoTestUsersError
from mmgrid.data.histories import Histories
from mmgrid.data.sampling import nested_sample

Target = Literal["test", "phase2"]

_PHASE_BEFORE = {"test": "phase2", "phase2": "phase1"}


@dataclass(frozen=True, eq=False)
class TestSet:
    """U users to test, sorted by id.

    histories: everything before each target.  targets: int64[U] item rows.
    active: bool[U], whether the user has an interaction in the phase before the target's.  user_ids: str[U].
    """

    __test__ = False  # not a test case, whatever pytest may think of its name

    histories: Histories
    targets: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]
    user_ids: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.targets)


def test_set(
    corpus: Corpus,
    calendar: Calendar,
    target: Target = "test",
    max_users: int | None = None,
    seed: int = 0,
) -> TestSet:
    """The users whose last interaction lies in the target phase, with that interaction as the target.

    Users whose only interaction is the target have nothing to recommend from and are left out.

    Args:
        target: "test": active users have an interaction in phase2.  "phase2": nothing at or after t2 is looked
            at, and active users have one in phase1.
        max_users: a sample of at most so many, nested and the same for every model.
        seed: of the sample.

    Raises NoTestUsersError if there is nobody to test.
    """
    if target not in _PHASE_BEFORE:
        raise ValueError(f"target {target!r}: expected one of {', '.join(_PHASE_BEFORE)}")
    phase, before = calendar.phase(target), calendar.phase(_PHASE_BEFORE[target])
    known = corpus.histories(phase.end)
    last = known.offsets[1:] - 1
    tested = np.flatnonzero((known.timestamps[last] >= phase.start) & (known.lengths > 1))
    if not tested.size:
        raise NoTestUsersError(
            f"{corpus.name}: no test users: nobody's last interaction lies in {phase} with another one before it; "
            f"{_time_range(corpus)}. Choose phases within that time, or leave the domain out"
        )
    tested = tested[nested_sample(corpus.user_ids[known.users[tested]], max_users, seed, f"{target} users")]
    whole = known.take(tested)
    is_target = np.zeros(len(whole.items), np.bool_)
    is_target[whole.offsets[1:] - 1] = True
    histories = Histories(
        whole.users,
        whole.offsets - np.arange(len(whole) + 1),
        whole.items[~is_target],
        whole.timestamps[~is_target],
        phase.end,
    )
    in_phase_before = (histories.timestamps >= before.start) & (histories.timestamps < before.end)
    active = np.add.reduceat(in_phase_before, histories.offsets[:-1], dtype=np.int64) > 0
    return TestSet(histories, whole.items[is_target].astype(np.int64), active, corpus.user_ids[whole.users])


test_set.__test__ = False  # type: ignore[attr-defined]


def _time_range(corpus: Corpus) -> str:
    if not len(corpus):
        return "its data is empty"
    low, high = int(corpus.timestamps.min()), int(corpus.timestamps.max())
    return f"its data runs from {format_time(low)} to {format_time(high)}"
