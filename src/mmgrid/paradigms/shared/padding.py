"""Pads sequences of different lengths into one table."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pad_right(sequences: list[np.ndarray]) -> np.ndarray:
    """Stack 1-d arrays, padded with 0 at the end: int64 [len(sequences), longest]."""
    lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    table = np.zeros((len(sequences), int(lengths.max(initial=1))), np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(sequences)
    return table


def pad_left(sequences: Sequence[Sequence[int] | np.ndarray]) -> tuple[Tensor, Tensor]:
    """Token ids padded with 0 at the start, and the attention mask: int64 [B, longest] each."""
    lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
    mask = np.arange(lengths.max()) >= lengths.max() - lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate([np.asarray(sequence, np.int64) for sequence in sequences])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))
