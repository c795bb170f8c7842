"""What a builder is handed: its cell, where its upstream lies, where to write, and whom to tell."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.data import Calendar, Corpus
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.store import STEP_FOLDER, Store

Progress = Callable[[int, int, float | None], None]
SAVE_VARIABLE = "MMGRID_SAVE_SECONDS"


@dataclass(frozen=True)
class Job:
    """One cell in work."""

    cell: Cell
    grid: Grid
    store: Store
    folder: Path
    progress: Progress | None = None

    @property
    def recipe(self) -> Any:
        return self.cell.recipe

    @property
    def step_folder(self) -> Path:
        """Where step checkpoints live until the cell is published."""
        return self.folder / STEP_FOLDER

    @property
    def calendar(self) -> Calendar:
        return self.grid.spec.phases.calendar()

    def save_seconds(self, default: float) -> float:
        """Least time between two step checkpoints; MMGRID_SAVE_SECONDS sets it, and it changes no weight."""
        text = os.environ.get(SAVE_VARIABLE)
        try:
            seconds = default if not text else float(text)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            raise ValueError(f"{SAVE_VARIABLE} is {text!r}: expected seconds, a number from 0")
        return seconds

    def upstream(self, role: str) -> Path:
        """The folder of the cell that plays `role`."""
        return self.store.folder(self.cell.upstream[role].address)

    def roles(self, prefix: str) -> dict[str, Path]:
        """The folders of all roles `prefix:name`, by name."""
        found = [role for role in self.cell.upstream if role.startswith(f"{prefix}:")]
        return {role.partition(":")[2]: self.upstream(role) for role in found}

    def corpus(self, until: int | None = None) -> Corpus:
        """The domain's corpus; with `until`, nothing at or after that time is ever read."""
        return Corpus.load(self.upstream("corpus"), until=until)
