"""One `fit` for all paradigms: `mmgrid.training.fit`, which imports torch; this face does not."""

from mmgrid.training.progress import StepProgress
from mmgrid.training.recipe import Precision, Schedule, TrainingRecipe

__all__ = ["Precision", "Schedule", "StepProgress", "TrainingRecipe"]
