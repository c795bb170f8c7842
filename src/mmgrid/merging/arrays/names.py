"""What a tensor's name says: the tower it belongs to, its layer, and how deep in the model it lies."""

from __future__ import annotations

from collections.abc import Iterable

TOWER_SUFFIX = "_tower"
OUTSIDE = "outside"  # of all layers: embeddings, final norms, heads


def tower_of(name: str) -> str:
    """`item_tower` of `item_tower.layers.0.…`; `model` for a tensor outside of towers."""
    first = name.partition(".")[0]
    return first if first.endswith(TOWER_SUFFIX) else "model"


def layer_of(name: str) -> int | None:
    """The number of the layer that a tensor belongs to: the first whole number among the parts of its name."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def depths(names: Iterable[str]) -> dict[str, float]:
    """How deep each tensor lies in its tower: 0 for embeddings and the first layer, 1 for the last layer and the head.

    What stands outside of the layers counts as the first where it is an embedding, as the last otherwise.
    """
    names = list(names)
    last: dict[str, int] = {}
    for name in names:
        last[tower_of(name)] = max(last.get(tower_of(name), 0), layer_of(name) or 0)
    return {name: _depth(name, last[tower_of(name)]) for name in names}


def _depth(name: str, last: int) -> float:
    layer = layer_of(name)
    if layer is None:
        return 0.0 if "emb" in name or "wte" in name or "wpe" in name else 1.0
    return layer / last if last else 1.0
