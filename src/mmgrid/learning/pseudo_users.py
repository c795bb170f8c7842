"""Pseudo-users: histories that begin with an item and go on with what the domain's own model recommends after it.

No click enters. Source: Kim et al. 2026 (MergeRec, arXiv 2601.01753), whose pseudo-users are single items, labelled by
the domain's own model; those are pseudo-users of two items here.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from mmgrid.data import Histories, Items
from mmgrid.data.sampling import nested_sample
from mmgrid.learning.errors import LearningError
from mmgrid.paradigms.contract import Paradigm


def pseudo_users(
    paradigm: Paradigm, model: nn.Module, items: Items, *, number: int, length: int, seed: int
) -> Histories:
    """Histories of `length` items, each from another item of the catalogue.

    Args:
        paradigm, model: the domain's own, prepared to recommend.
        number: at most this many, from a sample of the candidates.
        seed: of the sample.

    Raises:
        LearningError: the model recommends nothing after any of the items.
    """
    first = items.candidates[nested_sample(items.ids[items.candidates], number, seed, "pseudo-users")]
    sequences = np.asarray(first, np.int64)[:, None]
    for _ in range(length - 1):
        best, _ = paradigm.recommend(model, _histories(sequences), items, 1)
        sequences = np.concatenate([sequences, best[:, :1]], axis=1)[best[:, 0] >= 0]
        if not len(sequences):
            raise LearningError(f"{paradigm.name}: the model recommends nothing after single items: no pseudo-users")
    return _histories(sequences)


def _histories(sequences: np.ndarray) -> Histories:
    """Histories of equal length from item rows int64 [users, length]."""
    users, length = sequences.shape
    return Histories(
        users=np.arange(users, dtype=np.int64),
        offsets=np.arange(users + 1, dtype=np.int64) * length,
        items=sequences.reshape(-1).astype(np.int32),
        timestamps=np.tile(np.arange(length, dtype=np.int64), users),
        end=length,
    )
