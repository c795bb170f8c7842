"""The parts of a model that may have a λ of their own: its towers, or thirds of its layers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from mmgrid.merging.arrays.names import OUTSIDE, THIRDS, thirds, tower_of


def parts_by_tensor(names: Iterable[str], per: Literal["tower", "third"]) -> dict[str, str]:
    """Tensor → its part."""
    return {name: tower_of(name) for name in names} if per == "tower" else thirds(names)


def parts_of(folder: Path, per: Literal["tower", "third"]) -> list[str]:
    """The parts of the model in a folder: towers in alphabetical order, or thirds from early to late, then `outside`."""
    from mmgrid.merging.models.sources import open_source

    with open_source(folder) as model:
        found = set(parts_by_tensor(model, per).values())
    return sorted(found) if per == "tower" else [part for part in (*THIRDS, OUTSIDE) if part in found]
