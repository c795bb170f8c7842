"""All installed paradigms by name, in the order of lists and reports. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from mmgrid.paradigms.spec import ParadigmSpec
from mmgrid.plugins import Plugins


def _check(name: str, spec: ParadigmSpec) -> None:
    if not isinstance(spec, ParadigmSpec):
        raise TypeError(f"expected an instance of ParadigmSpec, not a {type(spec).__name__}")
    if spec.name != name:
        raise ValueError(f"its spec is called {spec.name!r}, and its entry point {name!r}; give both the same name")


PARADIGMS: Plugins[ParadigmSpec] = Plugins(
    "mmgrid.paradigms", "paradigm", _check, first=("text", "semid", "semb", "sasrec", "pooled")
)


def trained_paradigms() -> list[str]:
    """The names of all paradigms that can be loaded and that a grid can train."""
    return [name for name, spec in PARADIGMS.working().items() if spec.recipe is not None]


def check_paradigms(names: Iterable[str], *, trained: bool = False) -> None:
    """Check that paradigms are installed and can be loaded. A broken paradigm that is not named does not matter.

    Args:
        trained: whether they must be paradigms that a grid can train.

    Raises:
        ValueError: a paradigm is unknown, or trains nothing; the message lists the valid names.
        PluginError: a paradigm of another package cannot be loaded.
    """
    for name in names:
        if name not in PARADIGMS or (trained and PARADIGMS[name].recipe is None):
            raise ValueError(PARADIGMS.unknown(name, trained_paradigms() if trained else None))
        PARADIGMS[name]
