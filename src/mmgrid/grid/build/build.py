"""Building one cell: from its kind to its function, and into the store.

The functions are imported when they are needed: preparing data must not wait for torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mmgrid.grid.build.job import Job, Progress
from mmgrid.grid.cell import Cell
from mmgrid.grid.fingerprint import plain
from mmgrid.grid.load import Grid
from mmgrid.store import Store

MODULES = {
    "corpus": "mmgrid.grid.build.corpus",
    "backbone": "mmgrid.grid.build.backbone",
    "base": "mmgrid.grid.build.base",
    "checkpoint": "mmgrid.grid.build.checkpoint",
    "merge": "mmgrid.grid.build.merge",
    "evaluation": "mmgrid.grid.build.evaluation",
    "vectors": "mmgrid.grid.build.vectors",
    "codes": "mmgrid.grid.build.codes",
    "study": "mmgrid.grid.build.study",
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
