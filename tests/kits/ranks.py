"""The rank of a target by its definition: sort the eligible items, and look for the target."""

import numpy as np

from mmgrid.evaluation import NOT_RANKED


def ranks_by_sorting(
    scores: np.ndarray, targets: np.ndarray, excluded: np.ndarray | None = None, candidates: np.ndarray | None = None
) -> np.ndarray:
    """int64 [B]; among equal scores the lower row comes first. excluded: bool [B, N]. candidates: bool [N]."""
    n_users, n_items = scores.shape
    excluded = np.zeros(scores.shape, bool) if excluded is None else excluded
    candidates = np.ones(n_items, bool) if candidates is None else candidates
    ranks = []
    for user, target in enumerate(targets):
        eligible = [item for item in range(n_items) if candidates[item] and not excluded[user, item]]
        eligible.sort(key=lambda item, user=user: (-scores[user, item], item))
        ranks.append(eligible.index(target) if target in eligible else NOT_RANKED)
    return np.array(ranks, np.int64).reshape(n_users)


def in_histories(offsets: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """bool [B, N]: whether an item is in a user's history."""
    mask = np.zeros((len(offsets) - 1, n_items), bool)
    mask[np.repeat(np.arange(len(mask)), np.diff(offsets)), items] = True
    return mask
