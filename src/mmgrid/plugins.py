"""Finds paradigms, studies and merge methods by name: the built-in ones and those of other packages.

Each kind has a group of entry points, such as `mmgrid.paradigms`. A package adds to it in its `pyproject.toml`:

    [project.entry-points."mmgrid.paradigms"]
    transitions = "my_package.transitions:SPEC"

The names are known without importing anything; a plug-in is imported when it is first used.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

T = TypeVar("T")
OURS = "mmgrid"
_GROUPS = {
    "paradigm": "mmgrid.paradigms",
    "study": "mmgrid.studies",
    "merge method": "mmgrid.merge_methods",
    "data format": "mmgrid.readers",
}
_LOG = logging.getLogger(__name__)


class UnknownPluginError(ValueError, KeyError):
    """No plug-in has this name; the message lists the known names."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class PluginError(RuntimeError):
    """A plug-in cannot be used; the message names its package and the reason."""


class Plugins(Mapping[str, T], Generic[T]):
    """The plug-ins of one group by name: first those in `first`, in that order, then the others in alphabetical order.

    Args:
        group: the group of entry points, such as `mmgrid.paradigms`.
        noun: the word for one of them in messages, such as `paradigm`.
        check: called with name and loaded object; raises TypeError or ValueError if the object is not such a plug-in.
        first: names that come first.

    Attributes:
        broken: name → reason, for the plug-ins that `working` left out.
    """

    def __init__(self, group: str, noun: str, check: Callable[[str, T], None], first: tuple[str, ...] = ()):
        self.group = group
        self.noun = noun
        self._check = check
        self._first = first
        self._loaded: dict[str, T] = {}
        self.broken: dict[str, str] = {}

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            known = found.setdefault(entry.name, entry)
            if known.value != entry.value:
                raise PluginError(
                    f"two packages, {_package(known)} and {_package(entry)}, have a {self.noun} called {entry.name!r}; "
                    "uninstall one of them"
                )
        if not found:
            raise PluginError(f"no {self.noun} is installed: install the package, `pip install -e .` from its source")
        places = {name: place for place, name in enumerate(self._first)}
        return dict(sorted(found.items(), key=lambda item: (places.get(item[0], len(places)), item[0])))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        """The plug-in with this name.

        Raises:
            UnknownPluginError: no plug-in has this name.
            PluginError: it cannot be imported, or is not such a plug-in.
        """
        if name not in self._loaded:
            if name not in self._entries:
                raise UnknownPluginError(self.unknown(name))
            self._loaded[name] = self._load(self._entries[name])
        return self._loaded[name]

    def working(self) -> dict[str, T]:
        """The plug-ins that can be loaded, by name; the others are in `broken`, with a warning for each."""
        found = {}
        for name in self:
            try:
                found[name] = self[name]
            except PluginError as error:
                if name not in self.broken:
                    _LOG.warning("%s", error)
                self.broken[name] = str(error)
        return found

    def unknown(self, name: str, known: Iterable[str] | None = None) -> str:
        """The message for a name that is not among `known` (default: all)."""
        known = list(self if known is None else known)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"unknown {self.noun} {name!r}; {hint}known are {', '.join(known)}"

    def refresh(self) -> None:
        """Search the installed packages again."""
        self.__dict__.pop("_entries", None)
        self._loaded.clear()
        self.broken.clear()

    def _load(self, entry: EntryPoint) -> T:
        try:
            loaded: T = entry.load()
            self._check(entry.name, loaded)
        except Exception as error:
            if _package(entry) == OURS:
                raise
            problem = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"the {self.noun} {entry.name!r} of {_package(entry)} ({entry.value}) cannot be used: {problem}"
            ) from error
        return loaded


def of_other_packages() -> list[str]:
    """All plug-ins that are not built in, such as `paradigm mean, of mean-of-items 1.0`; none is imported."""
    return [
        f"{noun} {entry.name}, of {entry.dist.name} {entry.dist.version}"
        for noun, group in _GROUPS.items()
        for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)
        if entry.dist and entry.dist.name != OURS
    ]


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown package"
