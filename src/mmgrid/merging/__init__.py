"""Merging safetensors checkpoints: methods, recipes, and the engine that runs them."""

from mmgrid.merging.engine import merge, merge_state_dicts
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import METHODS, Method, get_method
from mmgrid.merging.output import MergeReport
from mmgrid.merging.recipe import MergeRecipe, MergeSource
from mmgrid.merging.tensors import TensorFolder

__all__ = [
    "METHODS",
    "MergeError",
    "MergeRecipe",
    "MergeReport",
    "MergeSource",
    "Method",
    "TensorFolder",
    "get_method",
    "merge",
    "merge_state_dicts",
]
