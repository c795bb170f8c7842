"""mergekit's configuration files: read as recipes with mergekit's semantics, and written next to a merge."""

from typing import TYPE_CHECKING

from mmgrid.later import later

if TYPE_CHECKING:
    from mmgrid.merging.mergekit.read import MergekitRecipe, read_mergekit
    from mmgrid.merging.mergekit.several import NamedMerge, count_merges, read_merges

__all__ = ["MergekitRecipe", "NamedMerge", "count_merges", "read_mergekit", "read_merges"]

# Merges that only write such a file do without what reads them.
_MODULES = {
    **dict.fromkeys(("MergekitRecipe", "read_mergekit"), "read"),
    **dict.fromkeys(("NamedMerge", "count_merges", "read_merges"), "several"),
}

__getattr__ = later(__name__, _MODULES)
