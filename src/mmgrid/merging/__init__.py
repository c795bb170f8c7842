"""Merging safetensors checkpoints: methods, recipes, and the engine that runs them.

Only what works on torch tensors imports torch, and only when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from mmgrid.merging.blocks import BlockTable
from mmgrid.merging.errors import MergeError
from mmgrid.merging.folders import Change, MergeReport, merge, sweep
from mmgrid.merging.methods import METHODS, Method, get_method
from mmgrid.merging.recipe import MergeRecipe, MergeSource
from mmgrid.merging.tensors import TensorFolder

if TYPE_CHECKING:
    from mmgrid.merging.moving import Line, walk
    from mmgrid.merging.state_dicts import Blocks, merge_state_dicts

__all__ = [
    "METHODS",
    "BlockTable",
    "Blocks",
    "Change",
    "Line",
    "MergeError",
    "MergeRecipe",
    "MergeReport",
    "MergeSource",
    "Method",
    "TensorFolder",
    "get_method",
    "merge",
    "merge_state_dicts",
    "sweep",
    "walk",
]

_WITH_TORCH = {"Blocks": "state_dicts", "merge_state_dicts": "state_dicts", "walk": "moving", "Line": "moving"}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"mmgrid.merging.{_WITH_TORCH[name]}"), name)
    globals()[name] = value
    return value
