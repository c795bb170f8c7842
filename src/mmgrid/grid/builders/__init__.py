"""Builders, one module per kind of cell."""

from mmgrid.grid.builders.build import Outcome, build_cell

__all__ = ["Outcome", "build_cell"]
