"""Ways to recommend with a model: what a paradigm is, and the installed ones by name. Imports no torch."""

from mmgrid.paradigms.recipe import Compat, DialogueRecipe, PhaseValues, Recipe
from mmgrid.paradigms.registry import PARADIGMS
from mmgrid.paradigms.spec import Need, ParadigmSpec

__all__ = ["PARADIGMS", "Compat", "DialogueRecipe", "Need", "ParadigmSpec", "PhaseValues", "Recipe"]
