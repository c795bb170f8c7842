"""What a merge refuses: one error type, whose message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MergeError(ValueError):
    """A recipe, a source or a tensor that cannot be merged as asked. No output folder was made."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint `; did you mean …?` when a known word is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def listing(names: Iterable[str], limit: int = 5) -> str:
    """The first names, sorted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
