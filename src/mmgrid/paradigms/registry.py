"""All installed paradigms by name, in the order in which they are listed; nothing here imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mmgrid.paradigms.spec import ParadigmSpec
from mmgrid.plugins import Plugins


def _check(name: str, spec: ParadigmSpec) -> None:
    if not isinstance(spec, ParadigmSpec):
        raise TypeError(f"expected an instance of ParadigmSpec, not a {type(spec).__name__}")
    if spec.name != name:
        raise ValueError(f"its spec is called {spec.name!r}, and its entry point {name!r}; give both one name")


PARADIGMS: Plugins[ParadigmSpec] = Plugins(
    "mmgrid.paradigms", "paradigm", _check, first=("text", "semid", "semb", "sasrec", "pooled")
)


def trained_paradigms() -> list[str]:
    """Names of the paradigms that a grid can train."""
    return [name for name, spec in PARADIGMS.items() if spec.recipe is not None]


def check_paradigms(names: Iterable[str], known: Iterable[str] | None = None) -> None:
    """Raise ValueError for the first name that is not `known` (default: not installed), with the nearest one."""
    known = list(PARADIGMS if known is None else known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown paradigm {name!r}; {hint}known are {', '.join(known)}")
