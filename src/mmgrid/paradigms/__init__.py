"""Ways to recommend with a model: the recipes of all paradigms, and the door to their code.

This face imports no torch; `mmgrid.paradigms.registry` opens checkpoints, and does.
"""

from mmgrid.paradigms.recipes import (
    OFFICIAL_USERS,
    RECIPES,
    Compat,
    PhaseValues,
    Recipe,
    SasrecRecipe,
    SembRecipe,
    SemidRecipe,
    TextRecipe,
    model_values,
    resolve,
)

__all__ = [
    "OFFICIAL_USERS",
    "RECIPES",
    "Compat",
    "PhaseValues",
    "Recipe",
    "SasrecRecipe",
    "SembRecipe",
    "SemidRecipe",
    "TextRecipe",
    "model_values",
    "resolve",
]
