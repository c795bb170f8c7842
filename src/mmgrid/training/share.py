"""Several processes compute one batch together: each takes its share of the examples, and the mean of their gradients is
that of the whole batch.

Every process draws all examples of a batch, since an example is a pure function of its index. So each knows, without
asking the others, what the mean of the whole batch divides by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from mmgrid.training.schedule import Examples


@dataclass(frozen=True)
class Share:
    """One process's share of each batch. index: the process, from 0. of: the number of processes."""

    index: int = 0
    of: int = 1

    def part(self, n: int) -> slice:
        """Which of n things are its own; shares differ by one at most, and may be empty."""
        return slice(n * self.index // self.of, n * (self.index + 1) // self.of)

    def sizes(self, n: int) -> list[int]:
        """How many of n things each process has."""
        parts = (Share(index, self.of).part(n) for index in range(self.of))
        return [part.stop - part.start for part in parts]


def own_share() -> Share:
    """The share of this process; all if it trains alone."""
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share()


def units(examples: Examples, drawn: Sequence[Any]) -> float:
    """What the mean loss of a batch divides by: the examples' own `units`, else the number of examples."""
    count = getattr(examples, "units", len)
    return float(count(drawn))


def collate_share(examples: Examples, drawn: Sequence[Any], share: Share) -> tuple[dict[str, Any], float]:
    """This process's share of a batch, and the weight of its loss.

    The mean over all processes of weight times loss is the loss of the whole batch. A process without an example
    computes the first one with weight 0, since all processes must take part in every exchange.
    """
    own = getattr(examples, "collate_share", None)
    if own is not None:
        return own(drawn, share)
    mine = drawn[share.part(len(drawn))]
    return examples.collate(mine or drawn[:1]), weight_of(examples, mine, drawn, share)


def weight_of(examples: Examples, mine: Sequence[Any], drawn: Sequence[Any], share: Share) -> float:
    """The weight of the mean loss of `mine` in a batch of `drawn`; see `collate_share`."""
    return share.of * units(examples, mine) / units(examples, drawn) if mine else 0.0
