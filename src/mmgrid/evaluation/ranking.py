"""Where the one held-out item stands among all items that could have been recommended.

Everything that is reported about a recommender follows from a single number a user: the *rank* of the
target, counted from 0 over the whole catalogue (no sampled negatives, which are known to reorder models;
Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).  Ranks are kept, so that other
metrics, groups of users, intervals and tests need no new run of a model.

Shapes: ``B`` users, ``N`` items of the catalogue, ``K`` length of a returned list.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

NOT_RANKED = -1
"""The rank of a target that cannot be, or was not, recommended.  Every metric gives it 0."""

Excluded: TypeAlias = "tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]] | npt.NDArray[np.bool_]"
"""What is never recommended: pairs (user positions, item rows), or a mask bool[B, N]."""

_BLOCK_ELEMENTS = 1 << 21


def target_ranks(
    scores: npt.NDArray[np.floating],
    targets: npt.NDArray[np.integer],
    excluded: Excluded | None = None,
    candidates: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """Exact rank of each user's target, from 0.

    The rank is the number of other eligible items that come before the target: those with a higher score,
    and those with an equal score and a lower item row.  An item is eligible for a user if it is a candidate
    and not excluded.  A target that is not eligible gets ``NOT_RANKED``.

    Args:
        scores: float[B, N], larger is better; infinities are allowed.
        targets: int[B], item rows.
        excluded: a user's history, as (user positions, item rows) in any order, or as bool[B, N].
        candidates: bool[N], the items that may be recommended at all; ``None``: every item.

    Returns:
        int64[B].

    Raises:
        ValueError: for NaN among the scores, for shapes that do not fit, for rows outside the catalogue.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2:
        raise ValueError(f"scores: expected two dimensions (users, items), got shape {scores.shape}")
    n_users, n_items = scores.shape
    _check_rows("targets", targets, (n_users,), n_items)
    if candidates is not None and (candidates.shape != (n_items,) or candidates.dtype != np.bool_):
        raise ValueError(f"candidates: expected bool[{n_items}], got {candidates.dtype}{candidates.shape}")
    hidden = _Hidden(excluded, n_users, n_items)

    ranks = np.empty(n_users, np.int64)
    step = max(1, _BLOCK_ELEMENTS // max(1, n_items))
    for start in range(0, n_users, step):
        stop = min(start + step, n_users)
        ranks[start:stop] = _block_ranks(scores, targets, candidates, hidden, start, stop)
    return ranks


def list_ranks(items: npt.NDArray[np.integer], targets: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Rank of the target within the list that a model returned, for models that cannot score every item.

    Args:
        items: int[B, K] item rows, best first; short lists are filled with negative rows.
        targets: int[B] item rows.

    Returns:
        int64[B]: the first position of the target, ``NOT_RANKED`` where the list does not hold it.
    """
    items, targets = np.asarray(items), np.asarray(targets)
    if items.ndim != 2 or targets.shape != items.shape[:1]:
        raise ValueError(f"items {items.shape} and targets {targets.shape}: expected [B, K] and [B]")
    if items.shape[1] == 0:
        return np.full(len(items), NOT_RANKED, np.int64)
    found = (items == targets[:, None]) & (targets >= 0)[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), NOT_RANKED).astype(np.int64)


class _Hidden:
    """The excluded items, answering for a block of users, whichever way they were given."""

    def __init__(self, excluded: Excluded | None, n_users: int, n_items: int) -> None:
        self.mask: npt.NDArray[np.bool_] | None = None
        self.users = self.items = np.empty(0, np.int64)
        if isinstance(excluded, tuple):
            users, items = (np.asarray(part) for part in excluded)
            _check_rows("excluded users", users, users.shape, n_users)
            _check_rows("excluded items", items, users.shape, n_items)
            order = np.argsort(users, kind="stable")
            self.users, self.items = users[order], items[order]
        elif excluded is not None:
            if excluded.shape != (n_users, n_items) or excluded.dtype != np.bool_:
                raise ValueError(f"excluded: expected bool[{n_users}, {n_items}], got {excluded.dtype}{excluded.shape}")
            self.mask = excluded

    def clear(self, block: npt.NDArray[np.bool_], start: int, stop: int) -> None:
        """Set the excluded places of ``block``, bool[stop - start, N], to false."""
        if self.mask is not None:
            block &= ~self.mask[start:stop]
        elif self.users.size:
            first, last = np.searchsorted(self.users, [start, stop])
            block[self.users[first:last] - start, self.items[first:last]] = False


def _block_ranks(
    scores: npt.NDArray[np.floating],
    targets: npt.NDArray[np.integer],
    candidates: npt.NDArray[np.bool_] | None,
    hidden: _Hidden,
    start: int,
    stop: int,
) -> npt.NDArray[np.int64]:
    block, target = scores[start:stop], targets[start:stop]
    # max() carries NaN along, so this finds it without a mask as large as the block.
    spoiled = np.isnan(block.max(axis=1)) if block.shape[1] else np.zeros(0, bool)
    if spoiled.any():
        user = start + int(spoiled.argmax())
        raise ValueError(f"scores: NaN for the user at position {user}; a rank needs comparable scores")
    own = np.take_along_axis(block, target[:, None].astype(np.int64), axis=1)
    before = block > own
    tied_users, tied_items = np.nonzero(block == own)
    earlier = tied_items < target[tied_users]
    before[tied_users[earlier], tied_items[earlier]] = True
    # The target's own place, always false so far, tells afterwards whether it was eligible.
    positions = np.arange(stop - start)
    before[positions, target] = True
    if candidates is not None:
        before &= candidates
    hidden.clear(before, start, stop)
    eligible = before[positions, target]
    return np.where(eligible, before.sum(axis=1) - 1, NOT_RANKED)


def _check_rows(name: str, rows: npt.NDArray[np.integer], shape: tuple[int, ...], limit: int) -> None:
    if rows.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {rows.shape}")
    if not np.issubdtype(rows.dtype, np.integer) and rows.size:
        raise ValueError(f"{name}: expected integers, got {rows.dtype}")
    if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= limit):
        raise ValueError(f"{name}: rows must lie in [0, {limit}), got {int(rows.min())} .. {int(rows.max())}")
