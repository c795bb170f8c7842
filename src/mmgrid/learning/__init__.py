"""Merges that are learned: weights and statistics from pseudo-users or from unlabelled histories, written as recipes."""

from mmgrid.learning.domains import LearningDomain
from mmgrid.learning.errors import LearningError
from mmgrid.learning.learn import LEARNERS, Learned, learn
from mmgrid.learning.settings import LearningSettings

__all__ = ["LEARNERS", "Learned", "LearningDomain", "LearningError", "LearningSettings", "learn"]
