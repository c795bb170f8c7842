"""What a grid file may say about raw tables: the names of columns and files, the unit of time, the encoding."""

import codecs
import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from mmgrid.data.readers.time_texts import usable_form
from mmgrid.data.readers.time_units import UNITS
from mmgrid.frozen import Frozen

_DEFAULTS: dict[str, Any] = {
    "user": "user_id",
    "item": "item_id",
    "time": "timestamp",
    "title": "title",
    "description": "description",
    "rating": "rating",
}


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Columns(Frozen):
    """The names that a table gives its columns. A name that is left out has the default of the formats."""

    user: str | None = Field(default=None, description="user_id")
    item: str | None = Field(default=None, description="item_id")
    time: str | None = Field(default=None, description="timestamp")
    id: str | None = Field(default=None, description="the item in the table of items, if it is called otherwise there")
    title: str | None = Field(default=None, description="title")
    description: Annotated[tuple[str, ...] | None, BeforeValidator(_listed)] = Field(
        default=None, description="one column, or a list of them"
    )
    rating: str | None = Field(default=None, description="for `min_rating`")
    domain: str | None = Field(default=None, description="of which domain a row is, if one table holds several")


class TableOptions(Frozen):
    """How to find and read the tables of a domain."""

    columns: Columns = Columns()
    time_unit: str | None = None
    interactions: str | None = None
    items: str | None = None
    encoding: str | None = None
    min_rating: float | None = None
    skip_bad_lines: bool = Field(default=False, description="leave out lines that cannot be read, and say how many")

    @field_validator("time_unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in UNITS and not re.search(r"%[a-zA-Z+]", unit):
            raise ValueError(f'{unit!r} is unknown; known are {", ".join(UNITS)} and forms of dates such as "%d.%m.%Y"')
        why = usable_form(unit) if unit is not None and "%" in unit else None
        if why is not None:
            raise ValueError(f"{unit!r}: {why}")
        return unit

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        try:
            decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
            if not isinstance(decoder.decode(b"", final=True), str):
                raise LookupError
        except (LookupError, ValueError, TypeError):
            raise ValueError(f'{encoding!r} is unknown; known are "utf-8", "cp1252", "latin-1" and others') from None
        return encoding

    @field_validator("interactions", "items")
    @classmethod
    def _below_the_root(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            path = PurePosixPath(pattern)
            if not pattern or path.is_absolute() or ".." in path.parts:
                raise ValueError(f'{pattern!r} is no path below root; write it as in "logs/{{domain}}.csv"')
            unknown = set(re.findall(r"\{(.*?)\}", pattern)) - {"domain"}
            if unknown:
                raise ValueError(f"{pattern!r}: {{{min(unknown)}}} is unknown; {{domain}} stands for the domain")
        return pattern

    def identity(self) -> dict[str, Any]:
        """The values that determine what is read from given files; those that say the default are left out."""
        columns = self.columns.model_dump(exclude_none=True)
        columns = {field: name for field, name in columns.items() if name != _DEFAULTS.get(field)}
        if self.min_rating is None:
            columns.pop("rating", None)
        values = self.model_dump(exclude_none=True, include={"time_unit", "encoding", "min_rating"})
        values |= {"skip_bad_lines": True} if self.skip_bad_lines else {}
        return ({"columns": columns} if columns else {}) | values


class PreparationOptions(TableOptions):
    """How tables are read that are then prepared: what will surely be dropped is not kept in memory.

    min_interactions: items with fewer interactions lose their descriptions; 1: none does.
    """

    min_interactions: int = 1


def kept_from(options: TableOptions) -> int:
    """How many interactions an item needs so that its description is kept."""
    return options.min_interactions if isinstance(options, PreparationOptions) else 1
