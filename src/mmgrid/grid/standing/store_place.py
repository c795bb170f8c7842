"""Where the store of a grid is, if nobody names it: one rule for the command line and for Python.

It is the folder `runs` beside the grid file, from wherever the command is called. As long as there is none, a store
`runs` one folder above the grid file, or else in the working folder, is used, and a note says so: earlier versions kept
it in the working folder, which often is the one above `grids/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmgrid.files.addresses import address_in
from mmgrid.store import is_store

FOLDER = "runs"


@dataclass(frozen=True)
class StorePlace:
    """A store's folder, whether it exists or not.

    Attributes:
        root: the folder.
        looked: all folders that were looked at, this one first.
        note: what a user should be told.
    """

    root: Path
    looked: Sequence[Path]
    note: str = ""

    def check_exists(self) -> None:
        """Raises FileNotFoundError if there is no store: for commands that only look at one."""
        if not self.root.exists():
            if (address := address_in(self.root)) is not None:
                raise FileNotFoundError(
                    f"{address}: is an address, and a store is a folder; `mmgrid store pull FOLDER {address}` fetches its "
                    "cells into one"
                )
            others = f" (nor {', '.join(map(str, self.looked[1:]))})" if self.looked[1:] else ""
            raise FileNotFoundError(
                f"{self.root}: no such store{others}; `mmgrid run GRID` creates one, --store names another"
            )


def store_of_grid(file: Path, given: Path | None = None) -> StorePlace:
    """The store of a grid file: `given`, or the one that the rule finds."""
    if given is not None:
        return StorePlace(given, [given])
    beside = file.parent / FOLDER
    others = [path for path in dict.fromkeys((file.parent.parent / FOLDER, Path.cwd() / FOLDER)) if path != beside]
    if not is_store(beside):
        for path in others:
            if is_store(path):
                return StorePlace(path, [path], f"the store is {path}; there is none beside the grid file ({beside})")
    return StorePlace(beside, [beside, *others])


def store_nearby(given: Path | None = None) -> StorePlace:
    """The store for a command without a grid: `given`, or in the working folder, or beside the grids below it.

    Raises:
        FileNotFoundError: there is none, or there are several.
    """
    if given is not None:
        return StorePlace(given, [given])
    here = Path.cwd()
    near = [here, here / FOLDER]
    for place in near:
        if is_store(place):
            return StorePlace(place, near)
    below = sorted(path for path in here.glob(f"*/{FOLDER}") if is_store(path))
    if len(below) == 1:
        return StorePlace(below[0], below, f"the store is {below[0]}")
    if below:
        raise FileNotFoundError(
            f"{here}: there are several stores ({', '.join(str(path.relative_to(here)) for path in below)}); "
            "name a grid, or one of them with --store"
        )
    raise FileNotFoundError(
        f"{here / FOLDER}: no such store, nor is there one in */{FOLDER}; `mmgrid run GRID` creates one, name a grid, "
        "or another store with --store"
    )
