"""mergekit's configuration files: read as recipes with mergekit's semantics, and written next to a merge."""

from mmgrid.merging.mergekit.read import MergekitRecipe, read_mergekit
from mmgrid.merging.mergekit.several import NamedMerge, count_merges, read_merges

__all__ = ["MergekitRecipe", "NamedMerge", "count_merges", "read_mergekit", "read_merges"]
