"""Which function builds which kind of cell."""

from mmgrid.grid.builders.build import State, build_cell

__all__ = ["State", "build_cell"]
