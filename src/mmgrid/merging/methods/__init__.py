"""The merge methods: one file per method, one pure function of tensors per file."""

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import Method, Preset, merge_method, sum_of_weights, weighted_sum
from mmgrid.merging.methods.registry import METHODS, get_method

__all__ = [
    "METHODS",
    "Floats",
    "Method",
    "Preset",
    "get_method",
    "merge_method",
    "sum_of_weights",
    "weighted_sum",
]
