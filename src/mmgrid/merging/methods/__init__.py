"""The merge methods, each a pure function of tensors in a file of its own."""

from mmgrid.merging.methods.base import Method, merge_method
from mmgrid.merging.methods.registry import METHODS, get_method

__all__ = ["METHODS", "Method", "get_method", "merge_method"]
