"""Searches over the numbers of a merge of a grid, with evaluations in the loop."""

from mmgrid.grid.search.errors import SearchError
from mmgrid.grid.search.ranges import Range
from mmgrid.grid.search.search import Found, MergeSearch, Outcome

__all__ = ["Found", "MergeSearch", "Outcome", "Range", "SearchError"]
