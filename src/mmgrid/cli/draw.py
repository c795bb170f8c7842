"""Writes tables, trees, JSON and progress to the terminal; nothing outside the command line prints."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mmgrid.quantities import UNKNOWN, duration

# Output to a file or a pipe is not cut or wrapped, so that programs can read every digit.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)


def say(text: str) -> None:
    """Print one line without wrapping it, so that it can be searched."""
    console.print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print plain JSON; NaN and infinity become null."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> None:
    """Print a table; its first `left` columns are text, the others numbers."""
    if title:  # printed apart: rich wraps a table's own title at the width of the table
        say(f"[bold]{escape(title)}[/bold]")
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else number_text(value) for value in row))
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


def tree_of(names: Mapping[str, str], title: str) -> Tree:
    """A tree of slash-separated names, each followed by its text."""
    root = Tree(f"[bold]{title}[/bold]", guide_style="dim")
    branches: dict[tuple[str, ...], Tree] = {(): root}
    for name, text in names.items():
        parts = tuple(name.split("/"))
        for depth in range(1, len(parts)):
            if parts[:depth] not in branches:
                branches[parts[:depth]] = branches[parts[: depth - 1]].add(parts[depth - 1])
        if parts in branches:
            branches[parts].label = f"{parts[-1]}  {text}"
        else:
            branches[parts] = branches[parts[:-1]].add(f"{parts[-1]}  {text}")
    return root


class Bytes:
    """A progress bar in bytes; silent where the output is a file or a pipe."""

    def __init__(self, label: str, *, hidden: bool = False):
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn(label), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)
        self.task = self.bar.add_task(label, total=None)

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
        elif event.state != "present" or event.cell in self.running:  # cells built before the run do not count
            self.running.pop(event.cell, None)
            self.done += 1
            seconds = self.left(event.cell)
            self.rest = "" if seconds is None or self.done == self.total else f"about {duration(seconds)} left"
            self._say(event)
        if console.is_terminal:
            self.live.update(self._view())

    def _say(self, event: Any) -> None:
        count = f"{self.done:>{len(str(self.total))}}/{self.total}"
        if event.state == "built":
            rest = f" · {self.rest}" if self.rest and not console.is_terminal else ""
            say(f"[dim]{count}[/dim] [green]built[/green]   {event.cell}  [dim]{duration(event.seconds)}{rest}[/dim]")
        elif event.state == "failed":
            say(f"[dim]{count}[/dim] [red]failed[/red]  {event.cell}: {escape(event.message)}")
        elif event.state == "present":
            say(f"[dim]{count}[/dim] present {event.cell}, built by another process")

    def _view(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, text in self.running.items():
            table.add_row("[cyan]building[/cyan]", name, text)
        if self.running and self.rest:
            table.add_row("", f"[dim]{self.rest}[/dim]", "")
        return table


def _step_text(event: Any) -> str:
    left = event.seconds / max(event.step, 1) * (event.steps - event.step)
    loss = "" if event.loss is None else f"loss {float(event.loss):.3f}  "
    return f"step {event.step}/{event.steps}  {loss}{duration(left)} left"
