"""Building one cell: from its kind to its function, and into the store.

The functions are imported when they are needed: preparing data must not wait for torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mmgrid.grid.builders.job import Job, Progress
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import plain
from mmgrid.grid.file.load import Grid
from mmgrid.store import Store

MODULES = {
    "corpus": "mmgrid.grid.builders.corpus",
    "backbone": "mmgrid.grid.builders.backbone",
    "base": "mmgrid.grid.builders.base",
    "checkpoint": "mmgrid.grid.builders.checkpoint",
    "merge": "mmgrid.grid.builders.merge",
    "evaluation": "mmgrid.grid.builders.evaluation",
    "vectors": "mmgrid.grid.builders.vectors",
    "codes": "mmgrid.grid.builders.codes",
    "study": "mmgrid.grid.builders.study",
}

Builder = Callable[[Job], Mapping[str, Any]]
State = Literal["built", "present", "waiting"]


def build_cell(cell: Cell, grid: Grid, store: Store, progress: Progress | None = None) -> State:
    """Build `cell`, whose upstream is built, into `store`.

    Returns "built"; "present" if another process built it meanwhile; "waiting" while another one is at it.
    """
    builder: Builder = import_module(MODULES[cell.kind]).build
    upstream = {role: {"name": above.name, "fingerprint": above.fingerprint} for role, above in cell.upstream.items()}

    state: State = "present"

    def make(folder: Path) -> Mapping[str, Any]:
        nonlocal state
        state = "built"
        return builder(Job(cell, grid, store, folder, progress))

    record = store.build(cell.address, plain(cell.recipe), upstream, make)
    return "waiting" if record is None else state
