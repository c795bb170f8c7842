"""Merges that are learned: weights and statistics from pseudo-users or from unlabelled histories, written as recipes.

Names that need torch are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from mmgrid.learning.errors import LearningError
from mmgrid.learning.settings import LEARNERS, LearningSettings

if TYPE_CHECKING:
    from mmgrid.learning.domains import LearningDomain
    from mmgrid.learning.learn import Learned, learn

__all__ = ["LEARNERS", "Learned", "LearningDomain", "LearningError", "LearningSettings", "learn"]

_WITH_TORCH = {"LearningDomain": "domains", "Learned": "learn", "learn": "learn"}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"mmgrid.learning.{_WITH_TORCH[name]}"), name)
    globals()[name] = value
    return value
