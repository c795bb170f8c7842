"""Fingerprints: the identity of a cell, apart from where and how it is built.

A fingerprint is the SHA-256 of a canonical JSON text of plain values.  It raises on anything that has no one
deterministic text rather than guessing one.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


class FingerprintError(TypeError):
    """A value cannot be serialised deterministically; the message says where it stands."""


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The one JSON text of a tree of mappings, lists, strings, whole and finite numbers, booleans and None.

    1 and 1.0 are the same number, keys are sorted, floats have their shortest exact text.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def recipe_values(recipe: BaseModel) -> dict[str, Any]:
    """A recipe's resolved fields as plain values, for a fingerprint and a record.

    A field that was added after grids had been built declares `json_schema_extra={"absent_means": value}`:
    while it equals that frozen value it is left out, so that the fingerprints of older cells stay.
    """
    values = {}
    for name, field in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "absent_means" in extra and extra["absent_means"] == value:
            continue
        values[name] = recipe_values(value) if isinstance(value, BaseModel) else value
    return values


def plain(value: Any, place: str = "recipe") -> Any:
    """`value` as JSON has it: tuples become lists, whole floats integers; FingerprintError for anything else."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FingerprintError(f"{place}: {value} has no place in a fingerprint")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise FingerprintError(f"{place}: key {key!r} is no string")
        return {key: plain(inner, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, f"{place}[{i}]") for i, inner in enumerate(value)]
    raise FingerprintError(f"{place}: a {type(value).__name__} cannot be serialised deterministically")
