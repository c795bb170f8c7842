"""Errors in data, and how they show what stands in files."""

from collections.abc import Sequence

from mmgrid.visible import visible

_LONGEST = 100
_MOST = 50


def short(text: str) -> str:
    """A text from a file, as an error shows it: the beginning of a long one."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def named(names: Sequence[str]) -> str:
    """Names of columns, as an error lists them: the first ones of many."""
    shown = ", ".join(short(visible(name)) for name in names[:_MOST])
    return f"{shown} and {len(names) - _MOST:,} more" if len(names) > _MOST else shown


class DataError(ValueError):
    """The input data is unusable; the message names the file or domain and the remedy."""


class CalendarError(DataError):
    """The phases of a calendar are incomplete, reversed or overlap."""


class NoTestUsersError(DataError):
    """No user's last interaction lies in the target phase."""


class DamagedError(DataError):
    """The bytes of a file are not what they were: it is cut off, damaged, or something else under its name."""


class LeakageError(ValueError):
    """Histories that must end before a time contain an interaction at or after it."""
