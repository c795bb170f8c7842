"""Merges that are learned: weights and statistics from pseudo-users or from unlabelled histories, written as recipes.

Names that need torch are imported when they are first used.
"""

from typing import TYPE_CHECKING

from mmgrid.later import later
from mmgrid.learning.errors import LearningError
from mmgrid.learning.settings import LEARNERS, LearningSettings

if TYPE_CHECKING:
    from mmgrid.learning.domains import LearningDomain
    from mmgrid.learning.learned import Learned, learn

__all__ = ["LEARNERS", "Learned", "LearningDomain", "LearningError", "LearningSettings", "learn"]

_WITH_TORCH = {"LearningDomain": "domains", "Learned": "learned", "learn": "learned"}

__getattr__ = later(__name__, _WITH_TORCH)
