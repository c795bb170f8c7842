"""The batches of a domain: what comes after the known part of each user's history.

A user is in one batch, which comes again in every pass over the users with the same random choices (negatives), so what
the domain's own model expects there needs to be computed only once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmgrid.data import Phase
from mmgrid.learning.domains import OpenDomain, newest_apart
from mmgrid.learning.errors import LearningError
from mmgrid.learning.pseudo_users import pseudo_users
from mmgrid.learning.settings import LearningSettings
from mmgrid.seeds import derive, generator

NEWEST = Phase("phase2", 1, 2)  # of histories from `newest_apart`


class Questions:
    """A domain's users in batches of equal size, give or take one, in an order that depends on the seed alone."""

    def __init__(self, domain: OpenDomain, settings: LearningSettings, batch_size: int | None = None) -> None:
        """Raises LearningError if nobody can be asked."""
        self.size = batch_size or settings.batch_size
        seed = derive(settings.seed, "learned merges", domain.name)
        if settings.users == "pseudo":
            asked = pseudo_users(
                domain.paradigm,
                domain.model,
                domain.items,
                number=settings.number,
                length=settings.length,
                seed=seed,
            )
        else:
            asked = domain.histories(settings.number, seed)
        self.examples = domain.paradigm.next_items(
            newest_apart(asked), domain.items, NEWEST, batch_size=self.size, seed=seed
        )
        if not len(self.examples):
            raise LearningError(f"{domain.name}: none of its {len(asked)} users can be asked for a next item")
        order = generator(seed, "order").permutation(len(self.examples))
        self._batches = np.array_split(order, -(-len(order) // self.size))

    def __len__(self) -> int:
        """The number of users."""
        return len(self.examples)

    def number(self, step: int) -> int:
        """The number of the batch of a step."""
        return step % len(self._batches)

    def batch(self, number: int, device: torch.device) -> dict[str, Any]:
        """A batch, on the device."""
        drawn = [self.examples.draw(int(user), 0) for user in self._batches[number]]
        return _moved(self.examples.collate(drawn), device)

    def alone(self, number: int, device: torch.device) -> dict[str, Any]:
        """User `number` as a batch of one."""
        return _moved(self.examples.collate([self.examples.draw(number, 0)]), device)


def _moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of a model are."""
    return next(model.parameters()).device
