"""The error type of merges, and hints for its messages: what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
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


_EXPECTED = {
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "mapping_type": "a table",
    "list_type": "a list",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


def problem_of(found: Mapping[str, Any]) -> str:
    """What is wrong with a value, in the words of a recipe or a grid file. found: one of pydantic's errors."""
    kind, context = found["type"], found.get("ctx") or {}
    if kind in ("value_error", "assertion_error"):
        return str(found["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "unknown key"
    if kind in ("too_short", "string_too_short") and context.get("min_length", 1) <= 1:
        return "must not be empty"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"should have {bound} values (it is {shown(found['input'])})"
    expected = f"should be {_EXPECTED[kind]}" if kind in _EXPECTED else str(found["msg"]).removeprefix("Input ")
    return f"{expected} (it is {shown(found['input'])})"


def shown(value: Any) -> str:
    """A value of a recipe or a grid file in one line, cut where it is long."""
    text = f"{value}".lower() if isinstance(value, bool) else repr(value)  # as in TOML and YAML
    return text if len(text) <= 60 else f"{text[:59]}…"


def wrong_values(found: Sequence[Any]) -> list[Any]:
    """Pydantic's errors without those that follow from others: a list is not too short because its values are wrong."""
    places = [tuple(one["loc"]) for one in found]
    return [
        one
        for one in found
        if one["type"] != "too_short" or not any(_below(place, tuple(one["loc"])) for place in places)
    ]


def _below(place: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other
