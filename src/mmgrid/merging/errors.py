"""The error type of merges, and hints for its messages: what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class MergeError(ValueError):
    """A recipe, source or tensor that cannot be merged. No output folder was created."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint `; did you mean …?` if a known word is close to `word`, otherwise an empty text."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def listing(names: Iterable[str], limit: int = 5) -> str:
    """The first `limit` names, sorted, and the number of the others."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more


def problem_of(found: Mapping[str, Any]) -> str:
    """What pydantic says of a value, without its own words before messages of ours."""
    return str(found["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
