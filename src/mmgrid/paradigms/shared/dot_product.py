"""Recommending by dot products: scores every item for every user, exactly, in blocks of users.

A block has a limited number of scores, so that memory does not grow with the catalogue.

Shape letters: U users, B users of a block, N items, D width, K list length.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mmgrid.backbone.device import autocast
from mmgrid.data import Histories, Items
from mmgrid.evaluation import NOT_RANKED, target_ranks

BLOCK = 1024  # users
SCORES = 1 << 25  # of a block: 128 MiB, and about as much for comparing them
# Users; with fewer rows than about 8, libraries multiply matrices in another order, which rounds differently.
LEAST = 16


def dense_ranks(
    users: Tensor, items: Tensor, histories: Histories, catalogue: Items, targets: np.ndarray
) -> np.ndarray:
    """Full rank of each target, from 0, among the candidates outside the user's history: int64 [U].

    Among equal scores the lower item row comes first. A target that is no candidate, or is in the history, is
    NOT_RANKED.

    Args:
        users, items: float [U, D] and [N, D].
        targets: int64 [U] item rows.
    """
    ranks = np.full(len(targets), NOT_RANKED, np.int64)
    rows = torch.arange(len(items), device=items.device)
    for start, scores in _masked_scores(users, items, histories, catalogue):
        target = torch.as_tensor(targets[start : start + len(scores)], device=scores.device)[:, None]
        found = target_ranks(scores, scores.gather(1, target), lambda equal, target=target: equal & (rows < target))
        ranks[start : start + len(scores)] = found.cpu().numpy()
    return ranks


def dense_top(
    users: Tensor, items: Tensor, histories: Histories, catalogue: Items, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The K best candidates outside each history: item rows int64 [U, K] and scores float32 [U, K].

    Rows with fewer than K candidates are padded with -1 and -inf.

    Args:
        users, items: float [U, D] and [N, D].
        k: K.
    """
    k_found = min(k, len(items))
    best = np.full((len(histories), k), -1, np.int64)
    values = np.full((len(histories), k), -np.inf, np.float32)
    for start, scores in _masked_scores(users, items, histories, catalogue):
        value, index = _top(scores, k_found)
        index = index.masked_fill(value.isneginf(), -1)
        block = slice(start, start + len(scores))
        best[block, :k_found] = index.cpu().numpy()
        values[block, :k_found] = value.cpu().numpy()
    return best, values


def check_histories(histories: Histories) -> None:
    """Raise ValueError if a user has an empty history, from which nothing can be predicted."""
    empty = np.flatnonzero(histories.lengths == 0)
    if empty.size:
        raise ValueError(f"{empty.size} users have no history, the first at position {empty[0]}: leave them out")


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """torch.topk, with ties in the order of item rows."""
    beyond = min(k + 1, scores.shape[1])  # one more tells whether others tie with the last one
    value, index = torch.topk(scores, beyond, dim=1)
    crowded = (value[:, k - 1 : k] == value[:, k:]).any(1) & ~value[:, k - 1].isneginf()
    index, by_row = index[:, :k].sort(dim=1)
    value, by_score = value[:, :k].gather(1, by_row).sort(dim=1, descending=True, stable=True)
    index = index.gather(1, by_score)
    # If more items tie with the last one than fit, topk returns any of them: sort all items of these users.
    if crowded.any():
        value[crowded], index[crowded] = (
            part[:, :k] for part in scores[crowded].sort(dim=1, descending=True, stable=True)
        )
    return value, index


def _masked_scores(
    users: Tensor, items: Tensor, histories: Histories, catalogue: Items
) -> Iterator[tuple[int, Tensor]]:
    """Yields (first user, scores float32 [B, N]) per block; -inf where an item may not be recommended."""
    no_candidate = torch.ones(len(items), dtype=torch.bool, device=items.device)
    no_candidate[torch.as_tensor(catalogue.candidates, device=items.device)] = False
    some, bounded = bool(no_candidate.any()), _surely_finite(users, items)
    offsets = np.asarray(histories.offsets)
    for start, stop in _blocks(len(users), len(items)):
        with autocast(users.device.type, "float32"):
            scores = users[start:stop].float() @ items.T.float()
        if not bounded and not torch.isfinite(scores).all():
            raise ValueError(f"scores of users {start} to {stop - 1} hold NaN or infinity: the model is broken")
        if some:
            scores.masked_fill_(no_candidate, float("-inf"))
        seen = np.asarray(histories.items[offsets[start] : offsets[stop]], np.int64)
        owner = np.repeat(np.arange(stop - start), np.diff(offsets[start : stop + 1]))
        scores[torch.as_tensor(owner, device=scores.device), torch.as_tensor(seen, device=scores.device)] = float(
            "-inf"
        )
        yield start, scores
        del scores  # before the next ones are computed


def _surely_finite(users: Tensor, items: Tensor) -> bool:
    """Whether no product can be NaN or overflow: none is larger than the product of the lengths of its vectors."""
    if not len(users) or not len(items):
        return True
    longest = [vectors.float().norm(dim=1).amax() for vectors in (users, items)]
    return bool(longest[0] * longest[1] < torch.finfo(torch.float32).max / 2)  # false for NaN


def _blocks(n_users: int, n_items: int) -> Iterator[tuple[int, int]]:
    """The first and the last user (exclusive) of each block: BLOCK users, or parts of that with at least LEAST users."""
    size = max(LEAST, SCORES // max(n_items, 1) // LEAST * LEAST)
    for first in range(0, n_users, BLOCK):
        end = min(first + BLOCK, n_users)
        bounds = [*range(first, end, size), end]
        if len(bounds) > 2 and end - bounds[-2] < LEAST:
            del bounds[-2]
        yield from pairwise(bounds)
