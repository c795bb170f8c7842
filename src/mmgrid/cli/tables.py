"""Lays out tables and lines for a terminal of any width: numbers and ids never break within a word.

A table is drawn in the first of these forms that fits:

1. one line per row;
2. the same, with headings of several lines and with sentences wrapped between words;
3. turned: one line per column, if there are few rows;
4. in parts: rows that share their first texts stand below these texts, and what is the same in each part beside them;
5. one block per row: its texts, then `name value` pairs, wrapped between pairs.

A word that is longer than the terminal stays whole; the terminal wraps it, and it can be copied. Without a width
(a file or a pipe) the first form always fits.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mmgrid.cli.numbers import on_the_point

GAP = 2
FEW_ROWS = 8
LEAST_ROWS = 3
NARROWEST_SENTENCE = 24  # columns that a wrapped sentence gets at least
LONGEST_NAME = 24  # a text of several words up to here is a name, and stays in one line


@dataclass(frozen=True)
class TextTable:
    """The texts of a table. left: how many of the first columns are text; the others are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Text]]
    left: int


def wrapped(text: Text, width: int | None, hang: int = 0) -> list[Text]:
    """The text as lines of at most `width`, broken at spaces only; later lines are indented by `hang`."""
    if width is None or text.cell_len <= width:
        return [text]
    lines: list[Text] = []
    line: Text | None = None
    for word in text.split(" ", allow_blank=True):
        if line is None:
            line = word
        elif line.cell_len + 1 + word.cell_len <= width or not line.plain.strip():
            line = Text.assemble(line, " ", word)
        else:
            lines.append(line)
            line = Text.assemble(" " * hang, word)
    return [*lines, line] if line is not None else lines


def laid_out(table: TextTable, width: int | None) -> Iterator[RenderableType]:
    """What to print for a table in a terminal of this width."""
    for form in (_plain, _folded, _turned):
        drawn = form(table, width)
        if drawn is not None:
            yield drawn
            return
    assert width is not None
    parts = next(filter(None, (_parts(table, width, given) for given in range(1, table.left + 1))), None)
    yield from parts or _blocks(table, width)


def _plain(table: TextTable, width: int | None) -> Table | None:
    headings = [Text(column) for column in table.columns]
    return _drawn(headings, table.rows, table.left, width)


def _folded(table: TextTable, width: int | None) -> Table | None:
    """With headings broken at spaces and underscores, and sentences wrapped into what is left of the width."""
    assert width is not None
    headings = _on_several_lines(table.columns)
    columns = _columns(table)
    sentences = [place for place, texts in enumerate(columns[: table.left]) if any(map(_is_sentence, texts))]
    used = sum(_width([headings[p], *texts]) for p, texts in enumerate(columns) if p not in sentences)
    free = width - used - GAP * (len(columns) - 1)
    if not sentences:
        return _drawn(headings, table.rows, table.left, width)
    share = free // len(sentences)
    if share < NARROWEST_SENTENCE:
        return None
    rows = [
        [Text("\n").join(wrapped(text, share)) if place in sentences else text for place, text in enumerate(row)]
        for row in table.rows
    ]
    return _drawn(headings, rows, table.left, width)


def _turned(table: TextTable, width: int | None) -> Table | None:
    """With a line per column of numbers, and a column per row."""
    if not 0 < len(table.rows) <= FEW_ROWS or not 0 < table.left < len(table.columns):
        return None
    names = [Text(" ").join(text for text in row[: table.left] if text.plain) for row in table.rows]
    if any(_is_sentence(name) for name in names):
        return None
    lines = [
        [Text(column), *(row[place] for row in table.rows)]
        for place, column in enumerate(table.columns)
        if place >= table.left
    ]
    heading = Text(" ".join(column for column in table.columns[: table.left] if column))
    return _drawn([heading, *names], lines, 1, width, on_points=False)


def _parts(table: TextTable, width: int, given: int) -> list[RenderableType]:
    """A table per group of rows with the same first `given` texts; empty if groups are small, or a table too wide."""
    groups: dict[tuple[str, ...], list[Sequence[Text]]] = {}
    for row in table.rows:
        groups.setdefault(tuple(text.plain for text in row[:given]), []).append(row)
    if len(table.rows) < LEAST_ROWS * max(len(groups), 1):  # on average
        return []
    numbers = range(table.left, len(table.columns))
    same = [p for p in numbers if all(len({row[p].plain for row in rows}) == 1 for rows in groups.values())]
    kept = [place for place in range(given, len(table.columns)) if place not in same]
    drawn: list[RenderableType] = []
    for rows in groups.values():
        inner = [[row[place] for place in kept] for row in rows]
        part = TextTable([table.columns[place] for place in kept], inner, table.left - given)
        found = _plain(part, width) or _folded(part, width)
        if found is None:
            return []
        texts = Text("  ").join(text for text in rows[0][:given] if text.plain)
        drawn += [Text("")] * bool(drawn) + _with_pairs(texts, [(table.columns[p], rows[0][p]) for p in same], width)
        drawn.append(found)
    return drawn


def _with_pairs(texts: Text, pairs: Sequence[tuple[str, Text]], width: int) -> list[Text]:
    """Lines of a heading and `name value` pairs; a line is broken between pairs, and the heading between words."""
    lines = wrapped(texts, width, hang=GAP) if texts.plain else []
    line = Text("")
    for name, text in pairs:
        pair = Text.assemble((name, "dim"), " ", text)
        if line.plain and line.cell_len + GAP + pair.cell_len > width:
            lines.append(line)
            line = Text("")
        line = Text.assemble(line, " " * GAP, pair)
    return [*lines, line] if line.plain else lines


def _blocks(table: TextTable, width: int) -> Iterator[Text]:
    """A block of lines per row: its texts, and below them the numbers with their names."""
    for number, row in enumerate(table.rows):
        if number:
            yield Text("")
        texts = Text("  ").join(text for text in row[: table.left] if text.plain)
        yield from _with_pairs(texts, list(zip(table.columns[table.left :], row[table.left :], strict=True)), width)


def _drawn(
    headings: Sequence[Text], rows: Sequence[Sequence[Text]], left: int, width: int | None, *, on_points: bool = True
) -> Table | None:
    """A table, or None if it is wider than `width`."""
    columns = [[row[place] for row in rows] for place in range(len(headings))]
    if on_points:
        columns = columns[:left] + [_on_points(texts) for texts in columns[left:]]
    widths = [_width([heading, *texts]) for heading, texts in zip(headings, columns, strict=True)]
    if width is not None and sum(widths) + GAP * (len(widths) - 1) > width:
        return None
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=any(h.plain for h in headings))
    for place, (heading, wide) in enumerate(zip(headings, widths, strict=True)):
        justify = "left" if place < left else "right"
        table.add_column(heading, justify=justify, vertical="top", no_wrap=True, min_width=wide, max_width=wide)
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _on_points(texts: Sequence[Text]) -> list[Text]:
    padded = on_the_point([text.plain for text in texts])
    return [
        Text.assemble(text, " " * (len(after) - len(text.plain))) for text, after in zip(texts, padded, strict=True)
    ]


def _columns(table: TextTable) -> list[list[Text]]:
    return [[row[place] for row in table.rows] for place in range(len(table.columns))]


def _width(texts: Iterable[Text]) -> int:
    return max((line.cell_len for text in texts for line in text.split("\n", allow_blank=True)), default=0)


def _on_several_lines(columns: Sequence[str]) -> list[Text]:
    """Headings with a word per line, as `test_users` has two; the last lines stand side by side."""
    lines = [re.split(r"[ _]", column) for column in columns]
    most = max(map(len, lines), default=0)
    return [Text("\n".join([""] * (most - len(words)) + words)) for words in lines]


def _is_sentence(text: Text) -> bool:
    return " " in text.plain and text.cell_len > LONGEST_NAME
