"""One `fit` for all paradigms: `mmgrid.training.fit`, which imports torch; this face imports it for `Examples` alone."""

from typing import TYPE_CHECKING, Any

from mmgrid.training.progress import StepProgress
from mmgrid.training.recipe import Precision, Schedule, TrainingRecipe

if TYPE_CHECKING:
    from mmgrid.training.schedule import Examples

__all__ = ["Examples", "Precision", "Schedule", "StepProgress", "TrainingRecipe"]


def __getattr__(name: str) -> Any:
    if name != "Examples":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmgrid.training.schedule import Examples

    globals()[name] = Examples
    return Examples
