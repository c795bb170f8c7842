"""Fingerprints: the identity of a cell, independent of where and how it is built.

A fingerprint is the SHA-256 of a canonical JSON text of plain values. A value without a unique, deterministic text
raises an error.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


class FingerprintError(TypeError):
    """A value cannot be serialised deterministically; the message names its place."""


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The canonical JSON text of a tree of mappings, lists, strings, integers, finite floats, booleans and None.

    1 and 1.0 are the same number, keys are sorted, and floats have their shortest exact text.
    """
    return _ENCODER.encode(plain(value))


def recipe_values(recipe: BaseModel) -> dict[str, Any]:
    """The resolved fields of a recipe as plain values, for fingerprint and record.

    A field that is added after grids have been built declares `json_schema_extra={"absent_means": value}`. It is left
    out while it has this value, so that the fingerprints of existing cells do not change.
    """
    values = {}
    for name, field in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        value = recipe_values(value) if isinstance(value, BaseModel) else value
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "absent_means" in extra and extra["absent_means"] == value:
            continue
        values[name] = value
    return values


def plain(value: Any, place: str = "recipe") -> Any:
    """`value` in JSON types: tuples become lists, whole floats become integers. FingerprintError for other types."""
    # Dictionaries come first, as they are most of what is asked; the other mappings are slow to recognise.
    if isinstance(value, (dict, Mapping)):
        found = {}
        for key, inner in value.items():
            if not isinstance(key, str):
                raise FingerprintError(f"{place}: key {key!r} is not a string")
            # Most values are texts and numbers, which need no name of their place.
            found[key] = inner if type(inner) in _AS_THEY_ARE else plain(inner, f"{place}.{key}")
        return found
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FingerprintError(f"{place}: {value} is not finite and cannot be part of a fingerprint")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list | tuple):
        return [
            inner if type(inner) in _AS_THEY_ARE else plain(inner, f"{place}[{i}]") for i, inner in enumerate(value)
        ]
    raise FingerprintError(f"{place}: a {type(value).__name__} cannot be serialised deterministically")


_AS_THEY_ARE = {str, int, bool, type(None)}
