"""The merge methods: one file per method, one pure function of tensors per file."""

from mmgrid.merging.methods.base import Method, merge_method
from mmgrid.merging.methods.registry import METHODS, get_method

__all__ = ["METHODS", "Method", "get_method", "merge_method"]
