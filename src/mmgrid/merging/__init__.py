"""Merges safetensors checkpoints and state dicts.

What a plan of merges does not need, the engine above all, is imported when it is first used, and torch only for the
functions that work on its tensors.
"""

from typing import TYPE_CHECKING

from mmgrid.later import later
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import METHODS, Floats, Method, Preset, get_method, merge_method

if TYPE_CHECKING:
    from mmgrid.merging.in_memory import Blocks, merge_state_dicts
    from mmgrid.merging.live_model import Line, walk
    from mmgrid.merging.models.tensors import TensorFolder
    from mmgrid.merging.models.token_blocks import BlockTable
    from mmgrid.merging.on_disk import Change, merge, sweep
    from mmgrid.merging.output.report import MergeReport
    from mmgrid.merging.plan.recipe import MergeRecipe, MergeSource
    from mmgrid.merging.plan.rules import Rule

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

_LATER = {
    **dict.fromkeys(("Blocks", "merge_state_dicts"), "in_memory"),
    **dict.fromkeys(("Line", "walk"), "live_model"),
    **dict.fromkeys(("Change", "merge", "sweep"), "on_disk"),
    **dict.fromkeys(("MergeRecipe", "MergeSource"), "plan.recipe"),
    "BlockTable": "models.token_blocks",
    "MergeReport": "output.report",
    "Rule": "plan.rules",
    "TensorFolder": "models.tensors",
}

__getattr__ = later(__name__, _LATER)
