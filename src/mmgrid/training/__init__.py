"""One `fit` for all paradigms: `mmgrid.training.fit`, which imports torch; this face imports it for `Examples` alone."""

from typing import TYPE_CHECKING

from mmgrid.later import later
from mmgrid.training.progress import StepProgress
from mmgrid.training.recipe import Precision, Schedule, TrainingRecipe

if TYPE_CHECKING:
    from mmgrid.training.schedule import Examples

__all__ = ["Examples", "Precision", "Schedule", "StepProgress", "TrainingRecipe"]

__getattr__ = later(__name__, {"Examples": "schedule"})
