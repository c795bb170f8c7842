"""Commands that read and write checkpoints in the layouts of other projects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mmgrid.cli.options import DEFAULT_STORE, Settings, StoreRoot

Given = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the layout; repeat. --options lists them."),
]
ListOptions = Annotated[bool, typer.Option("--options", help="List the layout's options, and stop.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="The new folder.")]


def import_(
    layout: Annotated[str, typer.Option("--from", metavar="LAYOUT", help="hllm, lc-rec, bigrec, or a plug-in's.")],
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="The foreign checkpoint: a folder, or its file of weights.")
    ] = None,
    out: Out = None,
    option: Given = None,
    options: ListOptions = False,
) -> None:
    """Make a checkpoint from the layout of another project."""
    from mmgrid.cli import draw
    from mmgrid.paradigms.layouts import import_checkpoint, layout_named

    if options:
        _list_options(layout_named(layout).import_options)
        return
    place, folder = _needed(path, "PATH"), _needed(out, "-o")
    written = import_checkpoint(place, folder, layout, _values(option))
    draw.say(f"{written}: imported from {place}")


def export(
    layout: Annotated[str, typer.Option("--to", metavar="LAYOUT", help="hllm, lc-rec, bigrec, or a plug-in's.")],
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="CHECKPOINT", help="The folder of a checkpoint; with --grid also the name of a cell."),
    ] = None,
    out: Out = None,
    grid: Annotated[Path | None, typer.Option("--grid", metavar="GRID", help="A grid file, for a cell's name.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    option: Given = None,
    options: ListOptions = False,
) -> None:
    """Write a checkpoint in the layout of another project."""
    from mmgrid.cli import draw
    from mmgrid.paradigms.layouts import export_checkpoint, layout_named

    if options:
        _list_options(layout_named(layout).export_options)
        return
    named, folder = _needed(checkpoint, "CHECKPOINT"), _needed(out, "-o")
    place = Path(named)
    if grid is not None and not place.is_dir():
        from mmgrid.cli.session import Session
        from mmgrid.grid.standing.open_cell import open_cell

        place = open_cell(Session.open(grid, store, settings), named).folder
    notes = export_checkpoint(place, folder, layout, _values(option))
    draw.say(f"{folder}: {named} in the layout of {layout}")
    for note in notes:
        draw.say(f"  {note}.")


def _list_options(model: Any) -> None:
    from mmgrid.cli import draw
    from mmgrid.paradigms.layouts import described

    draw.print_table("", ("option", "default", "meaning"), described(model), left=3)


def _needed(value: Any, name: str) -> Any:
    if value is None:
        raise typer.BadParameter("is missing", param_hint=name)
    return value


def _values(options: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE; a value that begins like a JSON list is one."""
    found: dict[str, Any] = {}
    for text in options or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{text}: must be KEY=VALUE, e.g. history_length=50", param_hint="--option")
        try:
            found[key] = json.loads(value) if value.startswith("[") else value
        except ValueError as error:
            raise typer.BadParameter(f"{text}: is not a JSON list ({error})", param_hint="--option") from None
    return found
