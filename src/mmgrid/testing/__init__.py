"""Kits that check a paradigm, a study or a merge method: the built-in ones and those of other packages.

Subclass a kit in a test file and define the fixture `case`. The kits need pytest, which mmgrid does not install. Each is
imported when it is asked for: the kit of a merge method needs no Transformers.
"""

from typing import TYPE_CHECKING

from mmgrid.later import later

if TYPE_CHECKING:
    from mmgrid.testing.merge_method import MergeMethodKit, MethodCase
    from mmgrid.testing.paradigm import ParadigmCase, ParadigmKit
    from mmgrid.testing.study import StudyCase, StudyKit

__all__ = ["MergeMethodKit", "MethodCase", "ParadigmCase", "ParadigmKit", "StudyCase", "StudyKit"]

_MODULES = {
    "MergeMethodKit": "merge_method",
    "MethodCase": "merge_method",
    "ParadigmCase": "paradigm",
    "ParadigmKit": "paradigm",
    "StudyCase": "study",
    "StudyKit": "study",
}

__getattr__ = later(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
