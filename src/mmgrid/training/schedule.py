"""The order of the training examples, as one sequence over all epochs.

Epoch e visits the examples in a permutation drawn from (seed, e). Concatenated, the epochs form one long sequence, so a
run resumes at a position of it and needs neither sampler nor generator state.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from mmgrid.seeds import generator


class Examples(Protocol):
    """Training examples that a paradigm makes from histories; an example may differ between epochs."""

    def __len__(self) -> int: ...

    def draw(self, index: int, epoch: int) -> Any:
        """Example `index` in epoch `epoch`: a pure function of both and of the examples' seed."""
        ...

    def collate(self, drawn: Sequence[Any]) -> dict[str, Any]:
        """A batch of drawn examples, as the tensors that the paradigm's loss expects."""
        ...


class EpochSequence(Dataset):
    """`Examples` over all epochs as one map-style dataset of ⌈epochs · len(examples)⌉ draws, or of `least` if more."""

    def __init__(self, examples: Examples, epochs: float, seed: int, *, least: int = 0):
        self.examples = examples
        self.seed = seed
        self.draws = max(int(np.ceil(epochs * len(examples) - 1e-9)), least) if len(examples) else 0
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, position: int) -> Any:
        epoch, place = divmod(position, len(self.examples))
        return self.examples.draw(int(self._order(epoch)[place]), epoch)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            rng = generator(self.seed, "order", epoch)
            self._orders = {epoch: rng.permutation(len(self.examples))}  # only one epoch's order is kept
        return self._orders[epoch]
