"""Tower, layer and depth of a tensor, from its name."""

from collections.abc import Iterable

TOWER_SUFFIX = "_tower"
OUTSIDE = "outside"  # of all layers: embeddings, final norms, heads
THIRDS = ("early", "middle", "late")


def tower_of(name: str) -> str:
    """The tower of a tensor: `item_tower` for `item_tower.layers.0.…`, `model` for a tensor outside of towers."""
    first = name.partition(".")[0]
    return first if first.endswith(TOWER_SUFFIX) else "model"


def layer_of(name: str) -> int | None:
    """The layer of a tensor: the first whole number among the parts of its name; None outside of layers."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def split_layer(name: str) -> tuple[str, int, str] | None:
    """A tensor's name before its layer's number, the number, and the name behind it; None outside of layers.

    `model.layers.3.mlp.weight` is `model.layers`, 3, `mlp.weight`.
    """
    parts = name.split(".")
    at = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    return None if at is None else (".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :]))


def is_early(name: str) -> bool:
    """Whether a tensor outside of layers comes before them, as embeddings do."""
    return "emb" in name or "wte" in name or "wpe" in name


def depths(names: Iterable[str]) -> dict[str, float]:
    """The depth of each tensor in its tower: 0 for the first layer, 1 for the last.

    Outside of layers, embeddings have the depth of the first layer, and other tensors that of the last.
    """
    names = list(names)
    last: dict[str, int] = {}
    for name in names:
        last[tower_of(name)] = max(last.get(tower_of(name), 0), layer_of(name) or 0)
    return {name: _depth(name, last[tower_of(name)]) for name in names}


def _depth(name: str, last: int) -> float:
    layer = layer_of(name)
    if layer is None:
        return 0.0 if is_early(name) else 1.0
    return layer / last if last else 1.0


def thirds(names: Iterable[str]) -> dict[str, str]:
    """The part of its tower that each tensor is in: the `early`, `middle` or `late` third of the layers, or `outside`.

    By `depths`, so the only layer of a tower is late.
    """
    names = list(names)
    depth = depths(names)
    return {name: OUTSIDE if layer_of(name) is None else THIRDS[min(int(3 * depth[name]), 2)] for name in names}
