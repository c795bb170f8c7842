"""A cache of keys and values with room for what is known to come: nothing that it holds is copied when it grows."""

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class RoomyCache(Cache):
    """A dynamic cache whose layers begin with room for `room` places more than they are first given."""

    def __init__(self, room: int):
        super().__init__(layer_class_to_replicate=lambda: _RoomyLayer(room))  # pyright: ignore[reportArgumentType]


class _RoomyLayer(DynamicLayer):
    """keys, values: [B, H, places so far, d], the first part of what was set aside."""

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
            raise ValueError(f"{stop} places do not fit into a cache of {self._all_keys.shape[-2]}")
        self._all_keys[:, :, start:stop] = key_states
        self._all_values[:, :, start:stop] = value_states
        self.keys, self.values = self._all_keys[:, :, :stop], self._all_values[:, :, :stop]
        return self.keys, self.values

    def _with_room(self, states: Tensor) -> Tensor:
        batch, heads, places, width = states.shape
        return states.new_empty(batch, heads, places + self.room, width)
