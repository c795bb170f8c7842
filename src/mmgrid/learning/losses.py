"""The losses from which weights are learned: means over the places of a batch.

Shape letters: T places, C choices.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgrid.paradigms.contract import Predictions

CLOSED = -1e30  # instead of -inf, whose product with a probability of 0 is not a number


def recommendation(found: Sequence[Predictions]) -> Tensor:
    """Mean cross-entropy of the choices that came."""
    return _mean([F.cross_entropy(one.logits.float(), one.labels, reduction="none") for one in found])


def entropy(found: Sequence[Predictions]) -> Tensor:
    """Mean entropy of the distributions over the choices, in nats."""
    return _mean([_entropies(one.logits.float()) for one in found])


def distillation(found: Sequence[Predictions], teacher: Sequence[Predictions], temperature: float) -> Tensor:
    """Mean divergence KL(teacher ‖ found), at a temperature, times its square (Hinton et al. 2015).

    Choices that are closed in one of the two count in neither.
    """
    return temperature**2 * _mean(
        [
            _divergences(one.logits.float() / temperature, other.logits.float() / temperature)
            for one, other in zip(found, teacher, strict=True)
        ]
    )


def _entropies(logits: Tensor) -> Tensor:
    """[T, C] → [T]."""
    logarithms = torch.log_softmax(logits.masked_fill(logits.isinf(), CLOSED), dim=-1)
    return -(logarithms.exp() * logarithms).sum(-1)


def _divergences(found: Tensor, teacher: Tensor) -> Tensor:
    """[T, C] twice → [T]."""
    closed = found.isinf() | teacher.isinf()
    ours = torch.log_softmax(found.masked_fill(closed, CLOSED), dim=-1)
    theirs = torch.log_softmax(teacher.masked_fill(closed, CLOSED), dim=-1)
    return (theirs.exp() * (theirs - ours).masked_fill(closed, 0)).sum(-1)


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The mean over the places of all kinds of choices."""
    return torch.cat(list(values)).mean()
