"""The rank of the held-out item among all items that may be recommended.

All metrics follow from one number per user: the *rank* of the target, counted from 0 over the whole catalogue. Sampled
negatives can change the order of models (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020),
so none are used. Ranks are stored, so that other metrics, groups of users, intervals and tests need no second run of a
model.

Shapes: `B` users, `N` items of the catalogue, `K` length of a returned list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

NOT_RANKED = -1
"""The rank of a target that is not recommended. Every metric counts it as 0."""


def target_ranks(scores: Any, own: Any, earlier: Callable[[Any], Any]) -> Any:
    """Exact rank of each user's target, from 0: the number of eligible items that come before it.

    An item comes before the target if its score is higher, or if its score is equal and the tie order puts it earlier.
    Works on numpy arrays, and on torch tensors of any device.

    Args:
        scores: float[B, N], larger is better; -inf where an item may not be recommended to the user.
        own: float[B, 1], the target's score.
        earlier: maps the items with the target's score, bool[B, N], to those of them before the target in the tie
            order.

    Returns:
        int64[B]; `NOT_RANKED` where the target's own score is -inf.
    """
    rank = ((scores > own) | earlier(scores == own)).sum(1)
    may_be_recommended = own[:, 0] > -np.inf
    return (rank - NOT_RANKED) * may_be_recommended + NOT_RANKED


def list_ranks(items: npt.NDArray[np.integer], targets: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Rank of the target in a model's list, for models that cannot score every item.

    Args:
        items: int[B, K] item rows, best first; short lists are padded with negative rows.
        targets: int[B] item rows.

    Returns:
        int64[B]: the first position of the target, `NOT_RANKED` if it is not in the list.
    """
    items, targets = np.asarray(items), np.asarray(targets)
    if items.ndim != 2 or targets.shape != items.shape[:1]:
        raise ValueError(f"items {items.shape} and targets {targets.shape}: expected [B, K] and [B]")
    if items.shape[1] == 0:
        return np.full(len(items), NOT_RANKED, np.int64)
    found = (items == targets[:, None]) & (targets >= 0)[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), NOT_RANKED).astype(np.int64)
