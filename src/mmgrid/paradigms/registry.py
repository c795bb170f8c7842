"""All installed paradigms by name, in the order in which they are listed; nothing here imports torch."""

from __future__ import annotations

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
    """Names of the paradigms that a grid can train, of those that can be loaded."""
    return [name for name, spec in PARADIGMS.working().items() if spec.recipe is not None]


def check_paradigms(names: Iterable[str], *, trained: bool = False) -> None:
    """Check that paradigms are installed and can be loaded. Others are not imported, so they cannot be in the way.

    Args:
        trained: whether they must be paradigms that a grid can train.

    Raises:
        ValueError: a paradigm is unknown, or trains nothing; the message lists those that may be named.
        PluginError: a paradigm of another package cannot be loaded.
    """
    for name in names:
        if name not in PARADIGMS or (trained and PARADIGMS[name].recipe is None):
            raise ValueError(PARADIGMS.unknown(name, trained_paradigms() if trained else None))
        PARADIGMS[name]
