"""Single training targets of text and semid: interactions of a phase, each with the items before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgrid.data import Histories, Phase
from mmgrid.seeds import generator


@dataclass(frozen=True, eq=False)
class Targets:
    """T targets: target i is interaction `places[i]` (from 0, the oldest) of the user at position `users[i]`."""

    histories: Histories
    users: np.ndarray  # int64 [T]
    places: np.ndarray  # int64 [T]

    def __len__(self) -> int:
        return len(self.users)

    def item(self, index: int) -> int:
        """Item row of a target."""
        return int(self.histories.items[self.histories.offsets[self.users[index]] + self.places[index]])

    def context(self, index: int, length: int) -> np.ndarray:
        """Item rows of the newest `length` interactions before a target, oldest first: int64 [at most length]."""
        start = self.histories.offsets[self.users[index]]
        place = self.places[index]
        return np.asarray(self.histories.items[start + max(place - length, 0) : start + place], np.int64)

    @property
    def times(self) -> np.ndarray:
        """When each target came: int64 [T], ms UTC."""
        return np.asarray(self.histories.timestamps)[np.asarray(self.histories.offsets)[self.users] + self.places]

    def among(self, kept: np.ndarray) -> Targets:
        """The targets whose item is `kept` (bool [N])."""
        starts = np.asarray(self.histories.offsets)[self.users]
        chosen = kept[np.asarray(self.histories.items)[starts + self.places]]
        return Targets(self.histories, self.users[chosen], self.places[chosen])


def targets(histories: Histories, phase: Phase, *, earlier: int, most_per_user: int | None, seed: int) -> Targets:
    """The interactions of `phase` that have at least `earlier` interactions before them.

    Args:
        earlier: minimum number of interactions before a target.
        most_per_user: maximum targets per user; users with more get a sample, drawn from `seed`. None takes all.

    Raises LeakageError if the histories contain an interaction at or after the phase's end.
    """
    histories.guard(phase.end)
    lengths = histories.lengths
    users = np.repeat(np.arange(len(histories)), lengths)
    places = np.arange(len(users)) - np.repeat(histories.offsets[:-1], lengths)
    fit = (histories.timestamps >= phase.start) & (places >= earlier)
    users, places = users[fit], places[fit]
    if most_per_user is not None:
        chosen = _sample(users, most_per_user, seed)
        users, places = users[chosen], places[chosen]
    return Targets(histories, users, places)


def _sample(users: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` random targets per user, in order; `users` is sorted."""
    order = np.lexsort((generator(seed, "targets").random(len(users)), users))
    first = np.searchsorted(users, users)  # lexsort keeps the users in order
    return np.sort(order[np.arange(len(users)) - first < most])
