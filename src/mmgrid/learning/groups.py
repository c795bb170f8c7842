"""Groups of tensors that share a weight, and the patterns by which a recipe names them."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from mmgrid.merging.arrays.names import is_early, split_layer, tower_of

Grouping = Literal["domain", "tower", "layer", "tensor"]


def group_of(tensor: str, per: Grouping) -> str:
    """The group of a tensor: all of them, its tower, its layer (outside of layers: embeddings, or the rest), itself."""
    if per == "domain":
        return "*"
    if per == "tensor":
        return tensor
    tower = tower_of(tensor)
    if per == "tower":
        return tower
    split = split_layer(tensor)
    if split is None:
        return f"{tower}: {'embeddings' if is_early(tensor) else 'norms and heads'}"
    before, number, _ = split
    return f"{before}.{number}"


def patterns(group: str, members: Collection[str], tensors: Collection[str]) -> Sequence[str]:
    """What a rule says to cover exactly `members` among `tensors`: one pattern where there is one, else their names."""
    pattern = "*" if group == "*" else f"{group}.*"
    if {name for name in tensors if fnmatchcase(name, pattern)} == set(members):
        return [pattern]
    return [_exact(name) for name in sorted(members)]


def _exact(name: str) -> str:
    """A pattern that fits this name alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
