"""Users' interactions before one time, oldest first: everything that a model may know about them at that time.

They are stored as flat arrays with offsets, so that operations on millions of users are vectorised.
Shapes: U users, n interactions in total.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.data.calendar import format_time
from mmgrid.data.errors import LeakageError


@dataclass(frozen=True, eq=False)
class Histories:
    """The history of user i is `items[offsets[i]:offsets[i + 1]]`, oldest first, all before `end`.

    users: int64[U] user rows of the corpus. offsets: int64[U + 1].
    items: int32[n] item rows. timestamps: int64[n], ms UTC. end: ms UTC.
    """

    users: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    timestamps: npt.NDArray[np.int64]
    end: int

    def __post_init__(self) -> None:
        if self.offsets.shape != (len(self.users) + 1,):
            raise ValueError(f"offsets {self.offsets.shape}: expected {len(self.users) + 1}, one more than users")
        if not len(self.items) == len(self.timestamps) == int(self.offsets[-1]):
            raise ValueError(
                f"items {len(self.items)}, timestamps {len(self.timestamps)}: expected {int(self.offsets[-1])}, "
                "where the offsets end"
            )
        self.guard(self.end)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64[U]: number of interactions of each user."""
        return np.diff(self.offsets)

    def of(self, index: int) -> npt.NDArray[np.int32]:
        """int32[L]: item rows of the user at position `index` (not the user's row in the corpus)."""
        if not 0 <= index < len(self):
            raise IndexError(f"history {index}: there are {len(self)}, from 0")
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: npt.ArrayLike) -> Histories:
        """The histories at these positions, in this order."""
        positions = np.arange(len(self))[np.asarray(indices)]
        return self._pick(self.users[positions], self.offsets[:-1][positions], self.lengths[positions])

    def last(self, length: int) -> Histories:
        """The newest `length` interactions of every history."""
        if length < 0:
            raise ValueError(f"length {length}: expected 0 or more")
        kept = np.minimum(self.lengths, length)
        return self._pick(self.users, self.offsets[1:] - kept, kept)

    def guard(self, end: int) -> None:
        """Raise LeakageError if there is an interaction at or after `end` (ms UTC)."""
        if self.timestamps.size and int(self.timestamps.max()) >= end:
            late = self.timestamps >= end
            raise LeakageError(
                f"{int(late.sum())} interactions lie at or after {format_time(end)} (the latest at "
                f"{format_time(int(self.timestamps.max()))}), which must not be known; use histories before that time"
            )

    def _pick(
        self,
        users: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> Histories:
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        rows = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Histories(users, offsets, self.items[rows], self.timestamps[rows], self.end)
