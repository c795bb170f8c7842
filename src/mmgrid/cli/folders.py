"""What a command takes as a model or as data: a folder, or with a grid (`--grid`) the name of one of its cells."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmgrid.cli.session import Session

KINDS = ("backbone", "base", "checkpoint", "corpus", "family", "merge")
"""The kinds of cells that are models or data; names of cells begin with them."""
LEAST_PARTS = 3  # of a name that is surely no name on the Hub, which has two


@dataclass(frozen=True)
class Folders:
    """Turns names into folders. grid, store and settings are those of the command line."""

    grid: Path | None
    store: Path | None = None
    settings: list[str] | None = None

    def __call__(self, text: str) -> str:
        """The folder of a cell, for the name of a cell; every other text as it is.

        Raises:
            GridError: the grid has no such cell.
            FileNotFoundError: it is not built; or the text looks like a cell, and there is no grid.
        """
        parts = text.strip("/").split("/")
        if parts[0] not in KINDS or len(parts) == 1 or Path(text).exists():
            return text
        if self.grid is not None:
            return str(self._session.folder(self._session.cell(text)))
        if len(parts) >= LEAST_PARTS:
            raise FileNotFoundError(f"{text}: no such folder; for a cell, name its grid with --grid GRID")
        return text

    @cached_property
    def _session(self) -> "Session":
        from mmgrid.cli.session import Session

        assert self.grid is not None
        return Session.open(self.grid, self.store, self.settings)
