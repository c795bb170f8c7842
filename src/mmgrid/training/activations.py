"""Measures activations: what autograd keeps from a forward pass for the backward pass."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class Kept:
    """What autograd has kept since the beginning of a `keeping` block."""

    def __init__(self, weights: Iterable[Tensor]):
        self._weights = {_storage(weight)._cdata for weight in weights}
        self._storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    @property
    def bytes(self) -> int:
        """The size of all storages, each counted once."""
        return sum(storage.nbytes() for storage in self._storages.values())

    def add(self, tensor: Tensor) -> None:
        storage = _storage(tensor)
        if storage._cdata not in self._weights:
            self._storages[storage._cdata] = storage


@contextmanager
def keeping(weights: Iterable[Tensor] = ()) -> Iterator[Kept]:
    """Counts the activations of the forward passes inside; also on the meta device, where nothing is computed.

    What layers compute again in the backward pass counts as long as the block lasts, so end it before that.

    Args:
        weights: tensors that are there anyway, such as a model's parameters; they are not counted.
    """
    kept = Kept(weights)

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
