"""The order of the training examples, as one sequence over all epochs.

Epoch e visits the examples in a permutation drawn from (seed, e), or by the time of their targets. Concatenated, the
epochs form one long sequence, so a run resumes at a position of it and needs neither sampler nor generator state.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from mmgrid.seeds import generator
from mmgrid.training.errors import TrainingError
from mmgrid.training.recipe import Order


class Examples(Protocol):
    """Training examples that a paradigm makes from histories; an example may differ between epochs.

    For `order = "time"` it has an attribute `times`, int64 [examples]: when the newest target of each came, ms UTC;
    the least number for an example that belongs to no time.

    Where the loss is no mean over examples, `units(drawn)` says what it divides by, so that several processes can share
    a batch; where examples of a batch need one another, `collate_share(drawn, share)` does the work of
    `mmgrid.training.share.collate_share`.
    """

    def __len__(self) -> int: ...

    def draw(self, index: int, epoch: int) -> Any:
        """Example `index` in epoch `epoch`: a pure function of both and of the examples' seed."""
        ...

    def collate(self, drawn: Sequence[Any]) -> dict[str, Any]:
        """A batch of drawn examples, as the tensors that the paradigm's loss expects."""
        ...


class EpochSequence(Dataset):
    """`Examples` over all epochs as one map-style dataset of ⌈epochs · len(examples)⌉ draws, or of `least` if more."""

    def __init__(self, examples: Examples, epochs: float, seed: int, *, least: int = 0, order: Order = "shuffled"):
        """Raises TrainingError for `order = "time"` if the examples tell no times."""
        self.examples = examples
        self.seed = seed
        self.times = getattr(examples, "times", None) if order == "time" else None
        if order == "time" and self.times is None:
            raise TrainingError(
                f'order = "time": {type(examples).__name__} tells no times of its examples; set order = "shuffled"'
            )
        self.draws = max(int(np.ceil(epochs * len(examples) - 1e-9)), least) if len(examples) else 0
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, position: int) -> Any:
        epoch, place = divmod(position, len(self.examples))
        return self.examples.draw(int(self._order(epoch)[place]), epoch)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            order = generator(self.seed, "order", epoch).permutation(len(self.examples))
            if self.times is not None:  # of one time: in random order
                order = order[np.argsort(self.times[order], kind="stable")]
            self._orders = {epoch: order}  # only one epoch's order is kept
        return self._orders[epoch]
