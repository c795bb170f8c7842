"""Cross-entropy over a large vocabulary, without ever holding the logits of all places."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmgrid.paradigms.micro_batch import LOGITS_AT_ONCE

LARGEST_LOGITS = LOGITS_AT_ONCE


def fits_at_once(places: int, vocabulary: int) -> bool:
    """Whether the logits of so many places may stand in memory at once."""
    return places * vocabulary <= LARGEST_LOGITS


def summed_cross_entropy(states: Tensor, labels: Tensor, logits: Callable[[Tensor], Tensor], vocabulary: int) -> Tensor:
    """The sum of the cross-entropies of T places: a scalar.

    Where there are more than `LARGEST_LOGITS` logits, they are computed for a slice of the places at a time, and again in the
    backward pass: a third more work for the head, and memory that does not grow with T.

    Args:
        states: [T, D].
        labels: int64 [T].
        logits: states [t, D] → float32 [t, V].
        vocabulary: V.
    """

    def of_slice(states: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits(states), labels, reduction="sum")

    at_once = max(LARGEST_LOGITS // vocabulary, 1)
    if len(states) <= at_once:
        return of_slice(states, labels)
    slices = zip(states.split(at_once), labels.split(at_once), strict=True)
    # A slice draws nothing at random, so no generator's state needs to be kept for the backward pass.
    losses = [checkpoint(of_slice, *one, use_reentrant=False, preserve_rng_state=False) for one in slices]
    return torch.stack(losses).sum()  # pyright: ignore[reportArgumentType]
