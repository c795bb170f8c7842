"""The order in which examples are seen, laid out for all epochs at once.

Epoch e visits the examples in a permutation drawn from (seed, e). Laid end to end, the epochs form one
long sequence, so that resuming is nothing but going on at a position: no sampler state, no generator state.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from mmgrid.seeds import generator


class Examples(Protocol):
    """What a paradigm makes of histories: examples that can be drawn anew in each epoch."""

    def __len__(self) -> int: ...

    def draw(self, index: int, epoch: int) -> Any:
        """Example `index` as epoch `epoch` sees it; a pure function of the two and the examples' seed."""
        ...

    def collate(self, drawn: Sequence[Any]) -> dict[str, Any]:
        """A batch of drawn examples as the tensors that the paradigm's loss takes."""
        ...


class EpochSequence(Dataset):
    """`Examples` over all epochs as one flat map-style dataset of ⌈epochs · len(examples)⌉ draws."""

    def __init__(self, examples: Examples, epochs: float, seed: int):
        self.examples = examples
        self.seed = seed
        self.draws = int(np.ceil(epochs * len(examples) - 1e-9))
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, position: int) -> Any:
        epoch, place = divmod(position, len(self.examples))
        return self.examples.draw(int(self._order(epoch)[place]), epoch)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            rng = generator(self.seed, "order", epoch)
            self._orders = {epoch: rng.permutation(len(self.examples))}  # keep one epoch's order at a time
        return self._orders[epoch]


Collate = Callable[[Sequence[Any]], dict[str, Any]]
