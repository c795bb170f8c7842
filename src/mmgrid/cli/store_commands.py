"""The command `verify`: compares the files of built cells with their records."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.completion import grid_files
from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot
from mmgrid.machine.cores import available_cores
from mmgrid.quantities import size

if TYPE_CHECKING:
    from mmgrid.cli.verified import Chosen
    from mmgrid.store import Address, Store


def verify(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="GRID|STORE|CELL",
            help="The cells of a grid file; a store's folder; a cell's folder or name. Default: the store nearby.",
            autocompletion=grid_files,
        ),
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also compare records with recipes, and look for files that are not the store's."),
    ] = False,
    set_aside: Annotated[
        bool,
        typer.Option(
            "--repair", "--set-aside", help="Rename the folders of damaged cells, so that they are built again."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for damaged files: compare every file with its record.

    Reads the whole store. The exit status is 1 if a cell is damaged, or was built by a version of mmgrid whose records
    this one does not know; such cells are never set aside. What is set aside stays until `mmgrid gc`.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.verified import chosen

    found, wanted = chosen(what, store, settings)
    seen = _examined(found, wanted, deep, hidden=as_json)
    aside = {one: found.set_aside(one, sound=one in seen.unlike) for one in seen.problems} if set_aside else {}
    if as_json:
        draw.print_json(
            _facts(found, seen, aside) | ({"foreign": [str(path) for path in seen.foreign]} if deep else {})
        )
    else:
        say_newer({_name(found, folder): problem for folder, problem in seen.newer.items()})
        for folder, lines in seen.problems.items():
            say_damaged({_name(found, folder): lines})
            if moved := aside.get(folder):
                draw.say(f"set aside: {moved}")
        say_foreign(seen.foreign)
        _say_outcome(seen, set_aside)
    if seen.problems or seen.newer or seen.foreign:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Seen:
    """What was found in a store.

    Attributes:
        cells: how many were looked at. bytes: of the files that were compared.
        problems: folder of a damaged cell → a line for each problem.
        newer: folder of a cell whose record this version does not know → what is said of it.
        unlike: folders of cells whose record is not that of their recipe.
        foreign: what lies in the store and is not the store's.
    """

    cells: int
    bytes: int
    problems: dict[Path, list[str]]
    newer: dict[Path, str]
    unlike: Collection[Path]
    foreign: Collection[Path]


def _examined(store: "Store", wanted: "Chosen", deep: bool, *, hidden: bool) -> _Seen:
    """Compare the files of the wanted cells with their records; `deep`: see the option of that name."""
    from mmgrid.cli import draw
    from mmgrid.grid.standing.consistency import foreign_files, unlike_its_recipe

    records = [(address, record) for address, _, record in store.entries() if wanted.has(address)]
    cells = [address for address, _ in records]
    readable = {store.folder(address) for address in cells}
    damaged, others = store.unsound()
    problems = {  # of records, without which no file can be checked
        folder: [problem] for folder, problem in damaged if wanted.has_folder(folder) and folder not in readable
    }
    newer = {folder: problem for folder, problem in others if wanted.has_folder(folder)}
    unlike = {store.folder(one): text for one, record in records if deep and (text := unlike_its_recipe(record))}
    foreign = foreign_files(store) if deep and wanted.everything else []
    total = sum(store.size(address) for address in cells)
    with draw.Bytes("verifying", hidden=hidden) as bar:
        problems |= _differences(store, cells, lambda done: bar(done, total, ""))
    for folder, text in unlike.items():
        problems.setdefault(folder, []).append(text)
    unread = len(problems.keys() - readable) + len(newer)
    return _Seen(len(cells) + unread, total, problems, newer, unlike.keys(), foreign)


def _name(store: "Store", folder: Path) -> str:
    """The name of a cell, by its folder."""
    return folder.parent.relative_to(store.root).as_posix()


def _facts(store: "Store", seen: _Seen, aside: Mapping[Path, Path | None]) -> dict[str, Any]:
    damaged = [
        {"cell": _name(store, folder), "folder": str(folder), "problems": lines, "set_aside": _text(aside.get(folder))}
        for folder, lines in seen.problems.items()
    ]
    newer = [{"cell": _name(store, one), "folder": str(one), "problem": text} for one, text in seen.newer.items()]
    return {"store": str(store.root), "cells": seen.cells, "bytes": seen.bytes, "damaged": damaged, "newer": newer}


def _differences(store: "Store", cells: "list[Address]", progress: Callable[[int], None]) -> dict[Path, list[str]]:
    """Folder → problems of the damaged cells. progress: called with the number of bytes that were read so far."""
    lock, done = threading.Lock(), 0

    def count(size_bytes: int) -> None:
        nonlocal done
        with lock:
            done += size_bytes
            progress(done)

    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(lambda address: store.verify(address, count), cells)
        return {store.folder(address): lines for address, lines in zip(cells, found, strict=True) if lines}


def say_damaged(problems: Mapping[str, Iterable[str]]) -> None:
    """Print a line for each problem of a cell. problems: by the name of the cell, or its folder."""
    from mmgrid.cli import draw

    for cell, lines in problems.items():
        for line in lines:
            draw.say(("damaged", "red"), f" {cell}: {line}")


def say_newer(problems: Mapping[str, str]) -> None:
    """Print what is said of each cell that another version has built. problems: by the name of the cell, or its folder."""
    from mmgrid.cli import draw

    for cell, problem in problems.items():
        draw.say(("newer", "yellow"), f" {cell}: {problem}")


def say_foreign(paths: Iterable[object]) -> None:
    """Print what lies in a store and is not the store's."""
    from mmgrid.cli import draw

    for path in paths:
        draw.say(("foreign", "yellow"), f" {path}: is not the store's; move it elsewhere")


def _say_outcome(seen: _Seen, set_aside: bool) -> None:
    from mmgrid.cli import draw

    damaged, newer, cells = len(seen.problems), len(seen.newer), seen.cells
    if newer:
        draw.say(f"{newer:,} of {cells:,} cells were not compared; they stay as they are")
    if newer and newer == cells and not damaged:
        return
    if not damaged:
        draw.say(f"{cells - newer:,} cells, {size(seen.bytes)}: every file is as it was recorded")
        return
    remedy = "`mmgrid run GRID` builds them again"
    if not set_aside:
        remedy = f"`mmgrid verify --repair` sets them aside, and {remedy}"
    draw.say(f"{damaged:,} of {cells:,} cells are damaged; {remedy}")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
