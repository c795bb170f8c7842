"""mergekit's configuration files: read as recipes with mergekit's semantics, and written next to a merge."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgrid.merging.mergekit.read import MergekitRecipe, read_mergekit
    from mmgrid.merging.mergekit.several import NamedMerge, count_merges, read_merges

__all__ = ["MergekitRecipe", "NamedMerge", "count_merges", "read_mergekit", "read_merges"]


def __getattr__(name: str) -> Any:  # merges that only write such a file do without what reads them
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmgrid.merging.mergekit import read, several

    return getattr(read if hasattr(read, name) else several, name)
