"""JSON lines parsed in whole blocks by msgspec, which skips what is not asked for.

Values have the types that are asked for, as nearly all have, or else any types. Of a key that occurs twice in an object, the
last value counts, as in the standard library.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.readers.json_values import PARAGRAPHS, field_of, is_id, table_of, value_of
from mmgrid.machine.uncollected import uncollected

_PART_BYTES = 1 << 16  # few objects at a time, which stay in the cache
_SIGNS_AT_ONCE = 1 << 18  # likewise
_TYPES: dict[Any, Any] = {pl.String: str, pl.Int64: int, PARAGRAPHS: tuple[str, ...]}
_REFUSED = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, TypeError)


class TypedLines:
    """Parses lines of one schema: names to String, Int64 or lists of paragraphs; those of `required` are never null, and
    those of `ids` are ids."""

    def __init__(self, schema: Mapping[str, Any], required: Sequence[str], ids: Sequence[str] = ()) -> None:
        self._schema, self._required, self._ids = dict(schema), list(required), list(ids)
        self._nested = any("." in name for name in schema)  # of a nested object the whole is parsed
        keys = [key for name in schema for key in (name, *_outer(name))]
        self._fields = {f"f{place}": key for place, key in enumerate(dict.fromkeys(keys))}
        kinds = {name: _TYPES[dtype] for name, dtype in schema.items()}
        optional = {name: kinds[name] if name in required else kinds[name] | None for name in kinds}
        self._decode = None if self._nested else self._decoder(optional)
        self._decode_any = self._decoder(dict.fromkeys(self._fields.values(), Any))

    def _decoder(self, kinds: Mapping[str, Any]) -> Any:
        needed = [] if Any in kinds.values() else self._required
        fields: list[Any] = [
            (field, kinds[name]) if name in needed else (field, kinds[name], None)
            for field, name in self._fields.items()
        ]
        line = msgspec.defstruct("Line", fields, rename=self._fields, gc=False, kw_only=True)
        return msgspec.json.Decoder(line).decode_lines

    def table(self, data: bytes) -> pl.DataFrame | None:
        """One row for each line, paragraphs joined by line breaks; None if there is a line of any other form."""
        columns: dict[str, list[Any]] = {name: [] for name in self._schema}
        if self._decode is None:
            return None
        try:
            with uncollected():
                for lines in _objects(self._decode, data):
                    for field, name in self._fields.items():
                        values = map(attrgetter(field), lines)
                        if self._schema[name] == PARAGRAPHS:
                            columns[name] += ["\n".join(parts) if parts else "" for parts in values]
                        else:
                            columns[name] += values
            types = {name: pl.String if dtype == PARAGRAPHS else dtype for name, dtype in self._schema.items()}
            return pl.DataFrame([pl.Series(name, columns[name], dtype=dtype) for name, dtype in types.items()])
        except _REFUSED:
            return None

    def table_of_any(self, data: bytes) -> pl.DataFrame | None:
        """As `table`, from values of any types; None if a line is broken or lacks what is required."""
        columns: dict[str, list[Any]] = {name: [] for name in self._schema}
        try:
            for lines in _objects(self._decode_any, data):
                found = {key: list(map(attrgetter(field), lines)) for field, key in self._fields.items()}
                for name in self._schema:
                    values = self._of_nested(found, name) if _outer(name) else found[name]
                    if name in self._required and (None in values or "" in values):
                        return None
                    if name in self._ids and not all(map(is_id, values)):
                        return None
                    columns[name] += [value_of(value, self._schema[name]) for value in values]
            return table_of(columns, self._schema)
        except _REFUSED:
            return None

    def _of_nested(self, found: Mapping[str, list[Any]], name: str) -> list[Any]:
        """The values of a field of nested objects, or of a key that is called so."""
        pairs = zip(found[name], *(found[key] for key in _outer(name)), strict=True)
        return [
            whole if whole is not None else field_of(dict(zip(_outer(name), outer, strict=True)), name)
            for whole, *outer in pairs
        ]


def _outer(name: str) -> tuple[str, ...]:
    """The keys in whose objects a field of this name may be."""
    return tuple(name[:place] for place, sign in enumerate(name) if sign == ".")


def _objects(decode: Any, data: bytes) -> Iterator[list[Any]]:
    """The objects of all lines, some at a time. Raises ValueError unless each line is one object in UTF-8."""
    if not data.isascii():
        data.decode()  # what is skipped is no text either, if it is not UTF-8
    begin = objects = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + _PART_BYTES) + 1 or data.find(b"\n", begin) + 1 or len(data)
        lines = decode(memoryview(data)[begin:end])
        objects += len(lines)
        begin = end
        yield lines
    if data and not _one_a_line(data, objects):
        raise ValueError("lines and objects differ")


def _one_a_line(data: bytes, objects: int) -> bool:
    """Whether each line is one object: between two of them there is a line break, and nowhere else."""
    signs = np.frombuffer(data, np.uint8)
    breaks = line_breaks(data)
    breaks = breaks[: len(breaks) - data.endswith(b"\n")]
    if len(breaks) != objects - 1:
        return False
    last = np.where(signs[breaks - 1] == ord("\r"), signs[breaks - 2], signs[breaks - 1])
    return bool((last == ord("}")).all() and (signs[breaks + 1] == ord("{")).all())


def line_breaks(data: bytes) -> npt.NDArray[np.intp]:
    """Where the line breaks are: looked for part by part, in half the time of all at once."""
    signs, size = np.frombuffer(data, np.uint8), _SIGNS_AT_ONCE
    found = [start + np.flatnonzero(signs[start : start + size] == ord("\n")) for start in range(0, len(data), size)]
    return np.concatenate([np.empty(0, np.intp), *found])
