"""Writes tables, trees, JSON and progress to the terminal; nothing outside the command line prints.

No text is read as markup: what is printed is text, with styles beside it. Names, titles and paths come from files, and
may hold brackets, emoji codes and control characters.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from mmgrid.quantities import UNKNOWN, duration
from mmgrid.visible import visible, visible_json

Part = str | tuple[str, str]
"""Text, or text and its style, such as `("failed", "red")`."""

# Output to a file or a pipe is not cut or wrapped, so that programs can read every digit.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)


def text_of(*parts: Part) -> Text:
    """The parts as one line: `text_of(("failed", "red"), f" {name}")`."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in pairs))


def say(*parts: Part) -> None:
    """Print one line without wrapping it, so that it can be searched."""
    console.print(text_of(*parts), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print plain JSON; NaN and infinity become null."""
    typer.echo(visible_json(json.dumps(_finite(value), indent=2, ensure_ascii=False)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> None:
    """Print a table; its first `left` columns are text, the others numbers. Cells are text, numbers or `text_of`."""
    if title:  # printed apart: rich wraps a table's own title at the width of the table
        say((title, "bold"))
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(text_of(column), justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else text_of(number_text(value)) for value in row))
    console.print(table)


def number_text(value: Any) -> str:
    """`1,234.568`, `1,234`; a dash for null and NaN."""
    if value is None:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:,.3f}" if math.isfinite(value) else UNKNOWN
    return f"{value:,}" if isinstance(value, int) else str(value)


def short_number(value: float) -> str:
    """A percentage with three digits at most: `34.1`, `3.42`, `0.34`; a dash for NaN."""
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


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


class Bytes:
    """A progress bar in bytes; silent where the output is a file or a pipe."""

    def __init__(self, label: str, *, hidden: bool = False):
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)
        self.task = self.bar.add_task(visible(label), total=None)

    def __enter__(self) -> "Bytes":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, done: int, total: int, name: str) -> None:
        self.bar.update(self.task, completed=done, total=total)


class Progress:
    """A live view of the cells being built; for a file or a pipe, one line per finished cell.

    Args:
        total: cells to build.
        left: finished cell's name → seconds of work left, or None while that is unknown.
    """

    def __init__(self, total: int, left: Callable[[str], float | None]):
        self.total = total
        self.left = left
        self.done = 0
        self.rest = ""
        self.there: set[str] = set()
        self.running: dict[str, str] = {}
        self.live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Progress":
        if console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if console.is_terminal:
            self.live.stop()

    def __call__(self, event: Any) -> None:
        if event.state == "started":
            self.running[event.cell] = ""
        elif event.state == "progress":
            self.running[event.cell] = _step_text(event)
        elif event.state == "waiting":
            self.running.pop(event.cell, None)
        elif event.state == "damaged":
            self.total += event.cell in self.there  # it did not count as missing
            self.there.discard(event.cell)
            say(("damaged", "red"), f" {event.message}; it is set aside and built again")
        elif event.state != "present" or event.cell in self.running:  # cells built before the run do not count
            self.running.pop(event.cell, None)
            self.there.add(event.cell)
            self.done += 1
            seconds = self.left(event.cell)
            self.rest = "" if seconds is None or self.done == self.total else f"about {duration(seconds)} left"
            self._say(event)
        else:
            self.there.add(event.cell)
        if console.is_terminal:
            self.live.update(self._view())

    def _say(self, event: Any) -> None:
        count = (f"{self.done:>{len(str(self.total))}}/{self.total}", "dim")
        if event.state == "built":
            rest = f" · {self.rest}" if self.rest and not console.is_terminal else ""
            took = (f"{duration(event.seconds)}{rest}", "dim")
            say(count, " ", ("built", "green"), f"   {event.cell}  ", took)
        elif event.state == "failed":
            say(count, " ", ("failed", "red"), f"  {event.cell}: {event.message}")
        elif event.state == "present":
            say(count, f" present {event.cell}, built by another process")

    def _view(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, text in self.running.items():
            table.add_row(text_of(("building", "cyan")), text_of(name), text_of(text))
        if self.running and self.rest:
            table.add_row("", text_of((self.rest, "dim")), "")
        return table


def _step_text(event: Any) -> str:
    left = event.seconds / max(event.step, 1) * (event.steps - event.step)
    loss = "" if event.loss is None else f"loss {float(event.loss):.3f}  "
    return f"step {event.step}/{event.steps}  {loss}{duration(left)} left"
