"""The commands `mmgrid store`: cells of finished runs in object stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgrid.cli.completion import grid_files
from mmgrid.cli.help import App
from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot
from mmgrid.cli.store_commands import say_damaged, say_foreign, say_newer
from mmgrid.patterns import fits
from mmgrid.quantities import size

if TYPE_CHECKING:
    from mmgrid.store import Address, Store
    from mmgrid.store.remote import Moved

app = App(help="Copy built cells to object stores (s3://, gs://) and back.")

Url = Annotated[str, typer.Argument(metavar="URL", help="s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, file:///FOLDER, …")]
OnlyNamed = Annotated[
    list[str] | None, typer.Option("--only", metavar="GLOB", help="Only cells that match, e.g. 'checkpoint/*/books/*'.")
]


@app.command()
def push(
    what: Annotated[
        str,
        typer.Argument(
            metavar="GRID|STORE|CELL",
            help="The built cells of a grid file; a store's folder; a cell's folder or name.",
            autocompletion=grid_files,
        ),
    ],
    url: Url,
    only: OnlyNamed = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read the cells that are there already, and mend damaged files.")
    ] = False,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Send built cells to a remote store.

    Cells that are there stay as they are. What was sent is read back; a push that was cut goes on where it ended.
    The exit status is 1 if a cell is damaged, or its record cannot be read.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.verified import chosen
    from mmgrid.store.remote import Place
    from mmgrid.store.remote import push as run

    place = Place(url)
    found, wanted = chosen(what, store, settings)
    fits = _fitting(only)
    cells = [address for address, _, _ in found.entries() if wanted.has(address) and fits(address.name)]
    with draw.Bytes("pushing", hidden=as_json) as bar:
        moved = run(found, place, cells, deep=deep, progress=lambda done, total: bar(done, total, ""))
    known = {found.folder(address) for address in cells}
    unread = {  # records, without which no cell can be sent
        str(folder.relative_to(found.root)): problem
        for folder, problem in chain(*found.unsound())
        if folder not in known and wanted.has_folder(folder) and fits(folder.parent.relative_to(found.root).as_posix())
    }
    moved = replace(moved, problems=unread | moved.problems)
    _tell(moved, "sent to", place.shown, as_json)


@app.command()
def pull(
    what: Annotated[
        str,
        typer.Argument(
            metavar="GRID|STORE",
            help="A grid file, whose cells are fetched into its store; a store's folder, for all cells.",
            autocompletion=grid_files,
        ),
    ],
    url: Url,
    only: OnlyNamed = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Fetch cells of a remote store that are missing here, and compare them with their records.

    Damaged cells are set aside and fetched. A pull that was cut goes on where it ended.
    """
    from mmgrid.cli import draw
    from mmgrid.grid.standing.consistency import unlike_its_recipe
    from mmgrid.store.remote import Place
    from mmgrid.store.remote import pull as run

    place = Place(url)
    found, cells = _target(Path(what), store, settings)
    with draw.Bytes("pulling", hidden=as_json) as bar:
        moved = run(
            found,
            place,
            _fitting(only),
            cells=cells,
            check=unlike_its_recipe,
            progress=lambda done, total: bar(done, total, ""),
        )
    _tell(moved, "fetched from", place.shown, as_json)


@app.command()
def verify(
    url: Url,
    only: OnlyNamed = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also read every file, compare records with recipes, and look for foreign files."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the cells of a remote store with their records: whether every file is there, in its size.

    The exit status is 1 if a cell is damaged, or was built by a version whose records this one does not know.
    """
    from mmgrid.cli import draw
    from mmgrid.grid.standing.consistency import unlike_its_recipe
    from mmgrid.store.remote import Place
    from mmgrid.store.remote import verify as run

    place = Place(url)
    with draw.Bytes("verifying", hidden=as_json) as bar:
        found = run(
            place,
            _fitting(only),
            deep=deep,
            check=unlike_its_recipe,
            progress=lambda done, total: bar(done, total, ""),
        )
    foreign = found.foreign if deep else []
    if as_json:
        damaged = [{"cell": folder, "problems": lines} for folder, lines in found.damaged.items()]
        newer = [{"cell": folder, "problem": problem} for folder, problem in found.newer.items()]
        more = {"newer": newer, "unfinished": found.unfinished, "foreign": foreign}
        draw.print_json(
            {"url": place.shown, "cells": len(found.cells), "bytes": found.bytes, "damaged": damaged, **more}
        )
    else:
        say_newer(found.newer)
        say_damaged(found.damaged)
        say_foreign(foreign)
        for folder in found.unfinished:
            draw.say(("unfinished", "dim"), f" {folder}: has no record yet; the same push goes on with it")
        compared = len(found.cells) - len(found.newer)
        if found.newer:
            draw.say(f"{len(found.newer):,} of {len(found.cells):,} cells were not compared")
        if found.damaged:
            remedy = "`mmgrid store push --deep` from a store that has them mends them"
            draw.say(f"{len(found.damaged):,} of {len(found.cells):,} cells are damaged; {remedy}")
        elif compared or not found.newer:
            how = "every file is as it was recorded" if deep else "every file is there in its size (--deep reads them)"
            draw.say(f"{compared:,} cells, {size(found.bytes)}: {how}")
    if found.damaged or found.newer or foreign:
        raise typer.Exit(1)


def _fitting(only: list[str] | None) -> Callable[[str], bool]:
    return lambda name: not only or fits(name, only)


def _target(what: Path, store: Path | None, settings: list[str] | None) -> tuple[Store, list[Address] | None]:
    """The store that cells are fetched into, and those of a grid; None for all."""
    from mmgrid.cli.session import Session
    from mmgrid.store import Store

    if what.is_file() or what.suffix == ".toml":
        session = Session.open(what, store, settings)
        return session.store, [cell.address for cell in session.cells]
    return Store(what), None


def _tell(moved: Moved, verb: str, shown: str, as_json: bool) -> None:
    """Print what has become of cells. The exit status is 1 if there was a problem with one."""
    from dataclasses import asdict

    from mmgrid.cli import draw

    if as_json:
        draw.print_json({"url": shown, **asdict(moved)})
    else:
        for folder, problem in moved.problems.items():
            draw.say(("failed", "red"), f" {folder}: {problem}")
        for name in moved.other:
            draw.say(("other", "yellow"), f" {name}: is there with other bytes, as another machine built it; it stays")
        for name in moved.busy:
            draw.say(("busy", "yellow"), f" {name}: another process is building it here")
        there = f"; {len(moved.present):,} were there already" if moved.present else ""
        draw.say(f"{len(moved.done):,} cells, {size(moved.bytes)}, {verb} {shown}{there}")
    if moved.problems:
        raise typer.Exit(1)
