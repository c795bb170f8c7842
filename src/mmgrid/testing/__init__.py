"""Kits that check a paradigm, a study or a merge method: the built-in ones and those of other packages.

Subclass a kit in a test file and define the fixture `case`. The kits need pytest, which mmgrid does not install.
"""

from mmgrid.testing.merge_method import MergeMethodKit, MethodCase
from mmgrid.testing.paradigm import ParadigmCase, ParadigmKit
from mmgrid.testing.study import StudyCase, StudyKit

__all__ = ["MergeMethodKit", "MethodCase", "ParadigmCase", "ParadigmKit", "StudyCase", "StudyKit"]
