"""Ways to recommend with a model: the recipes of all paradigms, and the door to their code.

This face imports no torch; `mmgrid.paradigms.registry` opens checkpoints, and does.
"""

from mmgrid.paradigms.recipes import (
    RECIPES,
    PhaseValues,
    Recipe,
    SasrecRecipe,
    SembRecipe,
    SemidRecipe,
    TextRecipe,
    asked_values,
    model_values,
    resolve,
)

__all__ = [
    "RECIPES",
    "PhaseValues",
    "Recipe",
    "SasrecRecipe",
    "SembRecipe",
    "SemidRecipe",
    "TextRecipe",
    "asked_values",
    "model_values",
    "resolve",
]
