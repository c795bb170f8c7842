"""What a paradigm is: how histories become examples, what its loss is, and how it recommends.

A new paradigm is one file that fulfils `Paradigm` and one line in the registry; `tests/kits/paradigm.py`
checks what is promised here.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from mmgrid.data import Histories, Items, Phase
from mmgrid.training.schedule import Examples


class Paradigm(Protocol):
    """One way to recommend with a model.  Item rows index the domain's `Items`; users are rows of `Histories`."""

    name: str

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> Examples:
        """Training examples whose targets lie in `phase`; LeakageError if the histories reach beyond it."""
        ...

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Mean loss of a collated batch: a scalar."""
        ...

    def rank(self, model: nn.Module, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        """Full rank of each user's target, from 0, or NOT_RANKED: int64 [users]."""
        ...

    def recommend(self, model: nn.Module, histories: Histories, items: Items, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best items outside each history: item rows int64 [users, k], scores float32 [users, k]."""
        ...

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write `model` as a Hugging Face folder from which `load` gives the same recommendations."""
        ...
