"""Paradigms, the ways to recommend with a model: their contract, and the installed ones by name.

Names that need torch are imported when they are first used.
"""

from typing import TYPE_CHECKING

from mmgrid.later import later
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.recipe import Compat, DialogueRecipe, PhaseSteps, PhaseValues, Recipe
from mmgrid.paradigms.registry import PARADIGMS
from mmgrid.paradigms.spec import Need, ParadigmSpec

if TYPE_CHECKING:
    from mmgrid.paradigms.checkpoints import load_checkpoint
    from mmgrid.paradigms.contract import CodesFolder, Paradigm, Predictions, TrainingStart
    from mmgrid.paradigms.recommender import Recommender
    from mmgrid.paradigms.shared.dot_product import check_histories, dense_ranks, dense_top
    from mmgrid.paradigms.shared.targets import Targets, targets
    from mmgrid.paradigms.shared.windows import Windows, windows

__all__ = [
    "PARADIGMS",
    "CheckpointError",
    "CodesFolder",
    "Compat",
    "DialogueRecipe",
    "Need",
    "Paradigm",
    "ParadigmSpec",
    "PhaseSteps",
    "PhaseValues",
    "Predictions",
    "Recipe",
    "Recommender",
    "Targets",
    "TrainingStart",
    "Windows",
    "check_histories",
    "dense_ranks",
    "dense_top",
    "load_checkpoint",
    "targets",
    "windows",
]

_WITH_TORCH = {
    **dict.fromkeys(("CodesFolder", "Paradigm", "Predictions", "TrainingStart"), "contract"),
    **dict.fromkeys(("check_histories", "dense_ranks", "dense_top"), "shared.dot_product"),
    **dict.fromkeys(("Targets", "targets"), "shared.targets"),
    **dict.fromkeys(("Windows", "windows"), "shared.windows"),
    "Recommender": "recommender",
    "load_checkpoint": "checkpoints",
}

__getattr__ = later(__name__, _WITH_TORCH)
