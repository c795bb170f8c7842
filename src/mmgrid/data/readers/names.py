"""Which columns of a table are user, item, time and texts: the declared ones, or those with the usual names."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.errors import DataError, named
from mmgrid.data.raw import require_columns
from mmgrid.data.readers import tables
from mmgrid.data.readers.guessing import guess_column
from mmgrid.data.readers.headers import NUMBER, names_below
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.piece import Piece
from mmgrid.files import safe_segment

_VALUE = re.compile(r"[-+]?\d[\d.:]*|\d{4}-\d\d-\d\d[T ].*")
_OTHER_SEPARATOR = re.compile(r"\^|~|\|\|| +")
_USUAL_ITEMS = ("item_id", "parent_asin")
_USUAL = ("rating", "user_id", *_USUAL_ITEMS, "timestamp", "title", "description")


@dataclass(frozen=True)
class Names:
    """The columns of a table. Those of texts are only filled for a table of items; user and time only for the other."""

    item: str
    user: str = ""
    time: str = ""
    title: str | None = None
    descriptions: tuple[str, ...] = ()
    rating: str | None = None
    domain: str | None = None


def names_of(path: Path, options: TableOptions, *, items: bool = False, required: bool = False) -> Names:
    """The columns of a table of interactions, or of items.

    Args:
        items: look for the texts of items.
        required: the table must have a title (not so for texts in a table of interactions).

    Raises DataError for a column that is missing; it lists those that are there.
    """
    given = options.columns
    present = _present(path, options, items=items)
    jsonl = tables.file_format(path) == "jsonl"
    amazon = "parent_asin" in present and "item_id" not in present
    item = given.item or ("parent_asin" if amazon else "item_id")
    if not items:
        found = Names(
            item,
            given.user or "user_id",
            given.time or "timestamp",
            rating=given.rating or "rating",
            domain=given.domain,
        )
        wanted = {"item": item, "user": found.user, "time": found.time, "domain": given.domain}
        if options.min_rating is not None:
            wanted["rating"] = found.rating
        _require(path, present, wanted, options)
        return found
    if given.id and (required or given.id in present):
        item = given.id
    elif given.item and given.item not in present and ("item_id" in present or "parent_asin" in present):
        item = "parent_asin" if amazon else "item_id"  # the table of items has its usual name
    title = given.title or "title"
    wanted = {"item": item, "title": title if given.title or (required and not jsonl) else None}
    wanted |= {f"description.{place}": name for place, name in enumerate(given.description or ())}
    _require(path, present, wanted, options)
    descriptions = given.description or (("description",) if jsonl or "description" in present else ())
    return Names(
        item,
        title=title if (jsonl and required) or title in present else None,
        descriptions=tuple(descriptions),
        domain=given.domain if given.domain in present else None,
    )


def _present(path: Path, options: TableOptions, *, items: bool) -> list[str]:
    """The columns of a table; one of the two tables of a domain may have no line of names, so that they are numbers."""
    given = options.columns
    texts = [given.id, given.title, *(given.description or ())]
    declared = [name for name in (given.user, given.item, given.time, *texts, given.domain, given.rating) if name]
    named = [name for name in declared if not NUMBER.fullmatch(name)]
    own = [name for name in (texts if items else (given.user, given.item, given.time)) if name]
    wanted = declared if any(NUMBER.fullmatch(name) for name in own) else named
    present = tables.column_names(path, (*wanted, *_USUAL), options.encoding)
    if items and wanted != declared and not any(name in present for name in (given.id, given.item, *_USUAL_ITEMS)):
        return tables.column_names(path, (*declared, *_USUAL), options.encoding)
    return present


def one_domain(piece: Piece, names: Names, domain: str) -> Piece:
    """The rows of a domain, if a column says to which domain a row belongs.

    See `domain_name` for values that cannot name a folder.
    """
    if names.domain is None:
        return piece
    column = piece.frame[names.domain].cast(pl.String)
    values = [value for value in column.unique().drop_nulls() if domain_name(value) == domain]
    return piece.kept(column.is_in(values).fill_null(False))


def domain_name(value: str) -> str | None:
    """The domain that a value of a column means: "Home & Kitchen" is Home---Kitchen, which can name a folder.

    None for a value that cannot name a domain, such as "".
    """
    try:
        return safe_segment(value)
    except ValueError:
        return None


def _require(path: Path, present: list[str], wanted: dict[str, str | None], options: TableOptions) -> None:
    names = {role: name for role, name in wanted.items() if name is not None}
    missing = [(role.partition(".")[0], name) for role, name in names.items() if name not in present]
    if missing and tables.file_format(path) == "delimited":
        line = names_below(path, list(names.values()), options.encoding)
        if line is not None:
            raise DataError(f"{path}: its columns are named in line {line}, and not in the first; remove what is above")
    if missing and options.columns == type(options.columns)():
        try:
            require_columns(present, list(names.values()), path)
        except DataError as error:
            raise DataError(f"{error}{_hint(present, [role for role, _ in missing])}") from None
    if missing:
        _refuse(path, present, *missing[0])


def _hint(present: list[str], missing: list[str]) -> str:
    """What may help where columns have other names."""
    near = {role: name for role in missing if (name := guess_column(present, role))}
    if near:
        are = ", ".join(f'{role} = "{name}"' for role, name in near.items())
        means = " and ".join(f"{name} is its {role}" for role, name in near.items())
        return f"; if {means}: columns = {{ {are} }}, or rename what is called otherwise"
    if any(_VALUE.fullmatch(name) for name in present):
        return (
            "; these look like values: the first line has to name the columns, or columns are given by number, as in "
            'columns = { user = "#1", item = "#2", time = "#3" }'
        )
    if present and present[0].startswith("#"):
        return "; the first line is a comment: remove it"
    if len(present) == 1 and (found := _OTHER_SEPARATOR.search(present[0])):
        return f"; separate the values by commas, tabs, semicolons or bars instead of {found[0]!r}"
    return ""


def _refuse(path: Path, present: list[str], role: str, name: str) -> NoReturn:
    near = difflib.get_close_matches(name, present, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; name the right one in `columns` ({role} = …)"
    raise DataError(f"{path}: has no column {name} ({role}); it has {named(present)}{hint}")
