"""The grid and store of a command."""

from collections.abc import Iterable
from pathlib import Path

from mmgrid.cli.complain import complain
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import in_bf16
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.grid.standing.store_place import store_nearby, store_of_grid
from mmgrid.machine.bf16 import fast_bf16
from mmgrid.store import Store


def existing_store(grid: Path | None, given: Path | None) -> Store:
    """The store of a command that needs no grid: `given`, that of the grid, or the one nearby."""
    place = store_nearby(given) if grid is None or given else store_of_grid(load_grid(grid).file)
    if place.note:
        complain(place.note)
    place.check_exists()
    return Store(place.root)


class Session(GridStore):
    """A grid and its store, for a command."""

    @staticmethod
    def tell(note: str) -> None:
        complain(note)

    def warn_of_damage(self) -> None:
        """Print the problems of damaged cells, which tables leave out, on standard error."""
        for problem in self.damaged.values():
            complain(problem)

    def warn_of_slow_bf16(self, cells: Iterable[Cell]) -> None:
        """Print which paradigms' missing cells compute in bfloat16, if the cores only emulate it, on standard error."""
        missing = (cell for cell in cells if cell not in self.records)
        slow = sorted({str(cell.recipe.get("paradigm", cell.kind)) for cell in missing if in_bf16(cell)})
        if slow and not fast_bf16():
            complain(
                f"{', '.join(slow)}: bf16 is emulated on this processor and takes many times as long as float32; set "
                'precision = "float32" (and evaluation_precision), or use a GPU'
            )
