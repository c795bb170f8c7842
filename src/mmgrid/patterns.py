"""Patterns of names, as of files in a shell: `*` is any text, `?` one letter, `[ab]` one of these."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator

_MOST_LETTERS = 1000  # the time that Python takes to read a pattern grows with the square of its length


def _short(pattern: str) -> str:
    if len(pattern) > _MOST_LETTERS:
        raise ValueError(f"a pattern of {len(pattern):,} letters; at most {_MOST_LETTERS:,} are read")
    return pattern


Pattern = Annotated[str, AfterValidator(_short)]
Patterns = Annotated[
    str | tuple[str, ...], AfterValidator(lambda given: [_short(one) for one in listed(given)] and given)
]


def listed(patterns: str | tuple[str, ...]) -> tuple[str, ...]:
    """A single pattern as a list of one."""
    return (patterns,) if isinstance(patterns, str) else patterns


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
