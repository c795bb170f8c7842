"""Windows over users' histories: each target of a phase is in exactly one window.

A window is up to `length + 1` consecutive interactions of one user. The loss is computed at every position whose next
item is a target: an item that lies in the phase and has an item before it. Windows are laid from the newest interaction
backwards, so that the newest targets have the longest history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmgrid.data import Histories, Phase
from mmgrid.paradigms.recipe import WhichTargets


@dataclass(frozen=True)
class Windows:
    """W windows: window w contains `items[starts[w]:stops[w]]`, and its targets begin at `first_targets[w]`."""

    items: np.ndarray  # int64 [n] item rows of all users, oldest first within a user
    timestamps: np.ndarray  # int64 [n], ms UTC
    starts: np.ndarray  # int64 [W]
    stops: np.ndarray  # int64 [W]
    first_targets: np.ndarray  # int64 [W], starts < first_targets < stops

    def __len__(self) -> int:
        return len(self.starts)

    def sequence(self, window: int) -> np.ndarray:
        """Item rows of a window, oldest first: int64 [at most length + 1]."""
        return self.items[self.starts[window] : self.stops[window]]

    @property
    def times(self) -> np.ndarray:
        """When the newest target of each window came: int64 [W], ms UTC."""
        return self.timestamps[self.stops - 1]

    def all_items(self) -> np.ndarray:
        """Item rows at all positions of all windows: int64 [positions]."""
        lengths = self.stops - self.starts
        first = np.cumsum(lengths) - lengths
        return self.items[np.repeat(self.starts - first, lengths) + np.arange(lengths.sum())]

    def n_context(self, window: int) -> int:
        """The number of items before the window's first target."""
        return int(self.first_targets[window] - self.starts[window])

    def with_target_among(self, kept: np.ndarray) -> "Windows":
        """The windows with at least one target whose item is `kept` (bool [N])."""
        so_far = np.concatenate([[0], np.cumsum(kept[self.items])])
        chosen = so_far[self.stops] > so_far[self.first_targets]
        return Windows(self.items, self.timestamps, self.starts[chosen], self.stops[chosen], self.first_targets[chosen])


def windows(histories: Histories, phase: Phase, length: int, targets: WhichTargets = "phase") -> Windows:
    """The windows over `histories` whose targets lie in `phase`, with at most `length` items before each.

    Args:
        targets: "phase", or "history" for all interactions of users who have one in the phase, as in the paper's
            official code.

    Raises LeakageError if the histories contain an interaction at or after the phase's end.
    """
    histories.guard(phase.end)
    offsets = np.asarray(histories.offsets, np.int64)
    sizes = np.diff(offsets)
    in_phase = histories.timestamps >= phase.start
    n_in_phase = np.add.reduceat(np.append(in_phase, False), offsets[:-1]) * (sizes > 0)
    if targets == "history":
        n_in_phase = np.where(n_in_phase > 0, sizes, 0)
    # Histories are sorted by time: a user's interactions in the phase are the newest ones.
    first_target = np.maximum(sizes - n_in_phase, 1)
    n_targets = np.maximum(sizes - first_target, 0)
    n_windows = -(-n_targets // length)
    user = np.repeat(np.arange(len(sizes)), n_windows)
    back = np.arange(n_windows.sum()) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    stops = sizes[user] - back * length
    starts = np.maximum(stops - length - 1, 0)
    firsts = np.maximum(first_target[user], stops - length)
    begin = offsets[:-1][user]
    items, timestamps = np.asarray(histories.items, np.int64), np.asarray(histories.timestamps)
    return Windows(items, timestamps, begin + starts, begin + stops, begin + firsts)


def target_mask(sequences: Sequence[np.ndarray], n_context: Sequence[int]) -> Tensor:
    """Whether the next item is a target, by position: bool [B, longest − 1]."""
    lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))[:, None]
    places = np.arange(1, int(lengths.max()))
    return torch.from_numpy((places >= np.asarray(n_context)[:, None]) & (places < lengths))
