"""mergekit's configuration files: read into recipes with mergekit's meanings, and written beside a merge."""

from mmgrid.merging.mergekit.read import MergekitRecipe, read_mergekit

__all__ = ["MergekitRecipe", "read_mergekit"]
