"""A grid and its store: the cells of the grid, and which of them are built. Every command on a grid starts here."""

import difflib
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mmgrid.files import DigestCache
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.cells.sources import is_absent
from mmgrid.grid.cells.stored import needed
from mmgrid.grid.file.load import Grid, GridError, load_grid
from mmgrid.grid.standing.state import CellState, cell_states, is_built, survey
from mmgrid.grid.standing.store_place import store_of_grid
from mmgrid.patterns import fits
from mmgrid.store import Record, Store, StoreError
from mmgrid.store.places import DIGESTS_FILE
from mmgrid.studies.registry import STUDIES

if TYPE_CHECKING:
    import polars as pl

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class GridStore:
    """A grid and its store."""

    grid: Grid
    store: Store
    settings: tuple[str, ...] = ()  # of the command line, for commands in messages
    bare: bool = False  # whether data may be missing, since nothing is built

    @classmethod
    def open(
        cls,
        grid: Grid | str | Path,
        store: Path | None = None,
        settings: Sequence[str] | None = None,
        *,
        must_exist: bool = False,
        bare: bool = False,
    ) -> Self:
        """Read a grid file, with values from the command line, and open the store.

        Args:
            grid: the grid file, or a grid that is read already.
            store: its store; by default the one that `store_of_grid` finds.
            settings: values from the command line.
            must_exist: refuse a store that does not exist, instead of creating it.
            bare: whether the data of domains that the grid expects may be missing. Their cells are not those that a run
                builds.
        """
        settings = tuple(settings or ())
        grid = grid if isinstance(grid, Grid) else load_grid(grid, settings)
        place = store_of_grid(grid.file, store)
        if place.note:
            cls.tell(place.note)
        if must_exist:
            place.check_exists()
        return cls(grid, Store(place.root), settings, bare)

    @staticmethod
    def tell(note: str) -> None:
        """Tell the user something that is no error."""
        _LOG.warning("%s", note)

    def check_built(self, kind: str | None = None) -> None:
        """Raises FileNotFoundError if no cell of the grid (of this kind) is built: for commands that show results."""
        if any(kind in (None, cell.kind) for cell in self.records):
            return
        what = f"no {kind} of {self.grid.file} is" if kind else f"nothing of {self.grid.file} is"
        others = any(True for _ in self.store.entries())
        more = "; what it holds belongs to other grids or other settings" if others and not self.records else ""
        raise FileNotFoundError(
            f"{self.store.root}: {what} built in this store{more}. `{self._command('run')}` builds it; "
            "--store names another store"
        )

    def _command(self, command: str, *words: str) -> str:
        """A command on this grid and store, with the settings of this one."""
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return shlex.join(["mmgrid", command, str(self.grid.file), *words, "--store", str(self.store.root), *settings])

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells of the grid, upstream cells first, without exact weights that no missing cell is built from."""
        digests = DigestCache(self.store.root / DIGESTS_FILE)
        return self._needed(expand(self.grid, digests.sha256, bare=self.bare))

    @property
    def absent(self) -> list[str]:
        """The domains whose data are missing."""
        return [str(cell.recipe["domain"]) for cell in self.cells if is_absent(cell)]

    def _needed(self, cells: Sequence[Cell]) -> list[Cell]:
        return needed(cells, lambda cell: is_built(cell, self.store))

    @cached_property
    def records(self) -> dict[Cell, Record]:
        """The records of the built cells."""
        return self._survey[0]

    @cached_property
    def damaged(self) -> dict[Cell, StoreError]:
        """Cell → problem, for cells whose record or files are damaged."""
        return self._survey[1]

    @cached_property
    def _survey(self) -> tuple[dict[Cell, Record], dict[Cell, StoreError]]:
        return survey(self.cells, self.store)

    @cached_property
    def states(self) -> dict[Cell, CellState]:
        """The state of each cell."""
        return cell_states(self.cells, self.records, self.damaged, self.store)

    def chosen(self, only: Sequence[str] | None) -> list[Cell]:
        """The cells whose names match a pattern, and their upstream cells; without patterns, all cells.

        Raises:
            GridError: no cell matches.
        """
        if not only:
            return self.cells
        fitting = [cell for cell in self.cells if fits(cell.name, only)]
        if not fitting:
            raise GridError(f"--only {' '.join(only)}: no cell matches; `mmgrid plan` lists all cells")
        wanted = set(with_upstream(fitting))
        return self._needed([cell for cell in self.cells if cell in wanted])

    def cell(self, name: str) -> Cell:
        """The cell with this name. GridError if there is none."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        near = difflib.get_close_matches(name, [cell.name for cell in self.cells], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `mmgrid plan` lists all cells"
        raise GridError(f"{name}: the grid has no such cell{hint}")

    def folder(self, cell: Cell) -> Path:
        """The folder of a built cell.

        Raises:
            FileNotFoundError: it is not built; the message has the command that builds it.
        """
        if not self.store.has(cell.address):
            command = self._command("run", "--only", cell.name)
            raise FileNotFoundError(f"{cell.name}: is not built in {self.store.root}; `{command}` builds it")
        return self.store.folder(cell.address)

    def study_tables(self, study: str) -> "dict[str, pl.DataFrame]":
        """Table → rows of all paradigms and seeds, for a built study.

        Raises:
            GridError: no such study is installed, the grid has none, or it is not built; the message says what to do.
        """
        from mmgrid.grid.standing.results import study_tables

        if study not in STUDIES:
            raise GridError(STUDIES.unknown(study))
        found = study_tables(self.records, self.store)
        if study not in found:
            declared = any(cell.kind == "study" and cell.key[0] == study for cell in self.cells)
            state = "is not built" if declared else "is not in the grid"
            remedy = f"`mmgrid run GRID --only 'study/{study}/*'` builds it" if declared else "add it under [[studies]]"
            raise GridError(f"{self.grid.file}: the study {study} {state}; {remedy}")
        return found[study]
