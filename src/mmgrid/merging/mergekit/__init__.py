"""mergekit's configuration files: read as recipes with mergekit's semantics, and written next to a merge."""

from mmgrid.merging.mergekit.read import MergekitRecipe, read_mergekit

__all__ = ["MergekitRecipe", "read_mergekit"]
