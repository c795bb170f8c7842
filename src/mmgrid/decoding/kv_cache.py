"""A key-value cache with preallocated positions, so that appending copies nothing that it already holds."""

import inspect
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer


def cache_argument(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """The cache under the name that the model's `forward` has for it; Transformers 5.24 renamed it to `cache`."""
    names = inspect.signature(model.forward).parameters
    return {"cache" if "cache" in names else "past_key_values": cache}


class PreallocatedCache(Cache):
    """A dynamic cache whose layers reserve `room` positions beyond those of their first update."""

    def __init__(self, room: int):
        super().__init__(layer_class_to_replicate=lambda: _PreallocatedLayer(room))  # pyright: ignore[reportArgumentType]


class _PreallocatedLayer(DynamicLayer):
    """keys, values: [B, H, positions so far, d], views of the reserved memory."""

    def __init__(self, room: int):
        super().__init__()
        self.room = room

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        first = not self.is_initialized
        if first:
            self.lazy_initialization(key_states, value_states)
            self._all_keys, self._all_values = self._with_room(key_states), self._with_room(value_states)
        start = 0 if first else self.get_seq_length()
        stop = start + key_states.shape[-2]
        if stop > self._all_keys.shape[-2]:
            raise ValueError(f"{stop} positions do not fit into a cache of {self._all_keys.shape[-2]}")
        self._all_keys[:, :, start:stop] = key_states
        self._all_values[:, :, start:stop] = value_states
        self.keys, self.values = self._all_keys[:, :, :stop], self._all_values[:, :, :stop]
        return self.keys, self.values

    def _with_room(self, states: Tensor) -> Tensor:
        batch, heads, positions, width = states.shape
        return states.new_empty(batch, heads, positions + self.room, width)
