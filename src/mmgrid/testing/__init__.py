"""Kits that check a paradigm, a study or a merge method: the built-in ones and those of other packages.

Subclass a kit in a test file and define the fixture `case`. The kits need pytest, which mmgrid does not install. Each is
imported when it is asked for: the kit of a merge method needs no Transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
