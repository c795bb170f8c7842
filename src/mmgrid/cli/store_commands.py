"""The command `verify`: compares the files of built cells with their records."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot
from mmgrid.machine.cores import available_cores
from mmgrid.quantities import size

if TYPE_CHECKING:
    from mmgrid.store import Address, Store


def verify(
    grid: Annotated[
        Path | None, typer.Argument(metavar="GRID", help="Only the cells of this grid. Default: the whole store.")
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Rename the folders of damaged cells, so that they are built again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for damaged files: compare every file with its record.

    Reads the whole store. The exit status is 1 if a cell is damaged. What is set aside stays until `mmgrid gc`.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import existing_store

    found = existing_store(grid, store)
    wanted = None if grid is None else _addresses(grid, found.root, settings)
    cells = [address for address, _, _ in found.entries() if wanted is None or address in wanted]
    folders = {found.folder(address) for address in wanted or ()}
    readable = {found.folder(address) for address in cells}
    problems = {  # of records, without which no file can be checked
        folder: [problem]
        for folder, problem in found.damaged()
        if (wanted is None or folder in folders) and folder not in readable
    }
    total = sum(found.size(address) for address in cells)
    with draw.Bytes("verifying", hidden=as_json) as bar:
        problems |= _differences(found, cells, lambda done: bar(done, total, ""))
    aside = {folder: found.set_aside(folder) for folder in problems} if set_aside else {}
    names = {folder: folder.parent.relative_to(found.root).as_posix() for folder in problems}
    if as_json:
        damaged = [
            {"cell": names[folder], "folder": str(folder), "problems": lines, "set_aside": _text(aside.get(folder))}
            for folder, lines in problems.items()
        ]
        draw.print_json({"store": str(found.root), "cells": len(cells), "bytes": total, "damaged": damaged})
    else:
        for folder, lines in problems.items():
            for line in lines:
                draw.say(("damaged", "red"), f" {names[folder]}: {line}")
            if moved := aside.get(folder):
                draw.say(f"set aside: {moved}")
        _say_outcome(len(problems), len(cells), total, set_aside)
    if problems:
        raise typer.Exit(1)


def _addresses(grid: Path, root: Path, settings: list[str] | None) -> "set[Address]":
    from mmgrid.cli.session import Session

    return {cell.address for cell in Session.open(grid, root, settings).cells}


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


def _say_outcome(damaged: int, cells: int, total: int, set_aside: bool) -> None:
    from mmgrid.cli import draw

    if not damaged:
        draw.say(f"{cells:,} cells, {size(total)}: every file is as it was recorded")
        return
    remedy = "`mmgrid run GRID` builds them again"
    if not set_aside:
        remedy = f"`mmgrid verify --set-aside` sets them aside, and {remedy}"
    draw.say(f"{damaged:,} of {cells:,} cells are damaged; {remedy}")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
