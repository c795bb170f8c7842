"""Prints the tables of a study: what all rows share stands in the title, bounds stand beside their value."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mmgrid.cli import draw
from mmgrid.cli.numbers import Interval

_NAMED_ONCE = ("seed",)  # columns of numbers that say which, not how much


def print_study_table(title: str, frame: pl.DataFrame, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print `rows` of a study's table; `frame` has its columns."""
    filled = [column for column in frame.columns if any(row[column] not in (None, "") for row in rows)]
    texts = [column for column in filled if frame.schema[column] == pl.String]
    shared = [c for c in (*texts, *_NAMED_ONCE) if c in filled and len({row[c] for row in rows}) == 1]
    shared = shared if len(rows) > 1 else []
    about = ", ".join(f"{column} {rows[0][column]}" for column in shared)
    title = f"{title} ({about})" if about else title
    if not rows:
        draw.say((title, "bold"), ": no rows")
        return
    texts = [column for column in texts if column not in shared]
    numbers = _with_bounds([column for column in filled if column not in (*texts, *shared)])
    cells = [
        [*(row[c] for c in texts), *(_cell([row[column] for column in columns]) for columns in numbers)] for row in rows
    ]
    draw.print_table(title, [*texts, *(columns[0] for columns in numbers)], cells, left=len(texts))


def _with_bounds(columns: Sequence[str]) -> list[list[str]]:
    """The columns, those of a value's bounds beside it: [["value", "low", "high"], ["n_users"]]."""
    groups: list[list[str]] = []
    for place, column in enumerate(columns):
        if groups and column in groups[-1]:
            continue
        after = list(columns[place + 1 : place + 3])
        bounded = len(after) == 2 and after[0].endswith("low") and after[1].endswith("high")
        groups.append([column, *after] if bounded else [column])
    return groups


def _cell(values: Sequence[Any]) -> Any:
    return Interval(*values) if len(values) == 3 else values[0]
