"""Writes tables, trees and JSON to the terminal; nothing outside the command line prints.

No text is read as markup: what is printed is text, with styles beside it. Names, titles and paths come from files, and
may hold brackets, emoji codes and control characters.
"""

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from mmgrid.cli.numbers import column_texts
from mmgrid.cli.tables import TextTable, laid_out, wrapped
from mmgrid.visible import visible, visible_json

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Part = str | tuple[str, str]
"""Text, or text and its style, such as `("failed", "red")`."""

UNLIMITED = 1_000_000
# Output to a file or a pipe is not cut or wrapped, so that programs can read every word.
console = Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)


def text_of(*parts: Part) -> Text:
    """The parts as one line: `text_of(("failed", "red"), f" {name}")`."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in pairs))


def say(*parts: Part, hang: int | None = None) -> None:
    """Print one line; in a terminal, a longer one is wrapped between words, indented by `hang` (default: by 2 more)."""
    text = text_of(*parts)
    own = len(text.plain) - len(text.plain.lstrip(" "))
    for line in wrapped(text, _width(), own + 2 if hang is None else hang):
        console.print(line, soft_wrap=True)


def _width() -> int | None:
    """The width of the terminal; None for a file or a pipe."""
    return None if console.width >= UNLIMITED else console.width


def print_json(value: Any) -> None:
    """Print plain JSON; NaN and infinity become null."""
    typer.echo(_visible_json(value, indent=2))


def print_json_line(value: Any) -> None:
    """Print JSON in one line, for a stream of objects; NaN and infinity become null."""
    typer.echo(_visible_json(value))


def _visible_json(value: Any, indent: int | None = None) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # A sign that the encoding lacks would be written as Python's escape, which is none of JSON's.
    escaped = not encoding.lower().startswith("utf")
    return visible_json(json.dumps(_finite(value), indent=indent, ensure_ascii=escaped))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> None:
    """Print a table; its first `left` columns are text, the others numbers. `tables` says how it is fitted.

    Cells are text, numbers, `Interval` or `text_of`.
    """
    if title:
        say((title, "bold"))
    rows = list(rows)
    texts = [_column([row[place] for row in rows]) for place in range(len(columns))]
    table = TextTable([visible(column) for column in columns], list(zip(*texts, strict=True)), left)
    for part in laid_out(table, _width()):
        console.print(part, soft_wrap=isinstance(part, Text))


def _column(values: Sequence[Any]) -> list[Text]:
    found = column_texts(["" if isinstance(value, Text) else value for value in values])
    return [value if isinstance(value, Text) else text_of(text) for value, text in zip(values, found, strict=True)]


def print_tree(names: Mapping[str, Text], title: str) -> None:
    """Print a tree of slash-separated names, each followed by its text."""
    root = Tree(text_of((title, "bold")), guide_style="dim")
    branches: dict[tuple[str, ...], Tree] = {(): root}
    for name, text in names.items():
        parts = tuple(name.split("/"))
        for depth in range(1, len(parts)):
            if parts[:depth] not in branches:
                branches[parts[:depth]] = branches[parts[: depth - 1]].add(text_of(parts[depth - 1]))
        label = text_of(parts[-1], "  ").append_text(text)
        if parts in branches:
            branches[parts].label = label
        else:
            branches[parts] = branches[parts[:-1]].add(label)
    console.print(root)


class _Bar(ABC):
    """A progress bar; silent where the output is a file or a pipe."""

    def __init__(self, label: str, *, hidden: bool = False):
        self.label = label
        self.bar = None
        if hidden or not console.is_terminal:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        said = TextColumn("{task.description}", markup=False)
        columns = (said, BarColumn(), *self._columns(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, transient=True)
        self.task = self.bar.add_task(visible(label), total=None)

    @abstractmethod
    def _columns(self) -> "tuple[ProgressColumn, ...]":
        """What says how far it is."""

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()


class Bytes(_Bar):
    """A progress bar in bytes."""

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import DownloadColumn, TransferSpeedColumn

        return DownloadColumn(), TransferSpeedColumn()

    def __call__(self, done: int, total: int, name: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total)

    def of_file(self, name: str, done: int, total: int | None) -> None:
        """One file after the other, each by its name."""
        if self.bar is None:
            return
        if name != self.label:
            self.label = name
            self.bar.reset(self.task, description=visible(name), total=total)
        self.bar.update(self.task, completed=done, total=total)


class Steps(_Bar):
    """A progress bar in steps."""

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import MofNCompleteColumn

        return (MofNCompleteColumn(),)

    def __call__(self, step: int, steps: int, loss: float | None) -> None:
        if self.bar is None:
            return
        said = self.label if loss is None else f"{self.label}, loss {loss:.4g}"
        self.bar.update(self.task, completed=step, total=steps, description=visible(said))
