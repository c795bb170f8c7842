"""What several processes that train together tell one another. All of them must ask at the same time."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def most_of(number: int, device: torch.device) -> int:
    """The largest of the numbers of all processes."""
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def gathered(own: Tensor, sizes: Sequence[int] | None) -> Tensor:
    """The tensors [M, …] of all processes, end to end, with gradients. sizes: how many each has; None for one process."""
    if sizes is None or not sum(sizes):
        return own
    padding = own.new_zeros(max(sizes) - len(own), *own.shape[1:])
    parts: Any = _Gathered.apply(torch.cat([own, padding]))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


class _Gathered(torch.autograd.Function):
    """The tensors of all processes, which have one shape. The gradient of each is the sum over all processes."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = torch.stack(gradients)
        dist.all_reduce(whole)
        return whole[dist.get_rank()]
