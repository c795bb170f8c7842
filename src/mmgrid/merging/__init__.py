"""Merges safetensors checkpoints and state dicts.

torch is imported only for the functions that work on torch tensors, when they are first used.
"""

from typing import TYPE_CHECKING, Any

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import METHODS, Floats, Method, Preset, get_method, merge_method
from mmgrid.merging.models.tensors import TensorFolder
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.on_disk import Change, merge, sweep
from mmgrid.merging.output.report import MergeReport
from mmgrid.merging.plan.recipe import MergeRecipe, MergeSource
from mmgrid.merging.plan.rules import Rule

if TYPE_CHECKING:
    from mmgrid.merging.in_memory import Blocks, merge_state_dicts
    from mmgrid.merging.live_model import Line, walk

__all__ = [
    "METHODS",
    "BlockTable",
    "Blocks",
    "Change",
    "Floats",
    "Line",
    "MergeError",
    "MergeRecipe",
    "MergeReport",
    "MergeSource",
    "Method",
    "Preset",
    "Rule",
    "TensorFolder",
    "get_method",
    "merge",
    "merge_method",
    "merge_state_dicts",
    "sweep",
    "walk",
]

_WITH_TORCH = {"Blocks": "in_memory", "merge_state_dicts": "in_memory", "walk": "live_model", "Line": "live_model"}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"mmgrid.merging.{_WITH_TORCH[name]}"), name)
    globals()[name] = value
    return value
