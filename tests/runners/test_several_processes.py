"""A training of several processes in a run: it takes up as many places, and is the cell that one process builds."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from kits.tiny_grid import cells_of, named, write_raw_grid
from mmgrid.grid.builders import build_cell
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.runners import CellEvent, run_local
from mmgrid.store import Store

SETTINGS = ("paradigms.sasrec.dropout=0", "paradigms.sasrec.epochs=1", "paradigms.sasrec.hidden_size=16")
NAME = "checkpoint/sasrec/garden/pretrain"


def test_two_processes_build_the_cell_of_one(tmp_path: Path) -> None:
    """And a second training of the run begins only when both places are free again."""
    file = write_raw_grid(tmp_path)
    alone = named(cells_of(load_grid(file, SETTINGS)), NAME)
    grid = load_grid(file, [*SETTINGS, "paradigms.sasrec.processes=2"])
    cell = named(cells_of(grid), NAME)
    assert cell.processes == 2
    assert cell.fingerprint == alone.fingerprint

    stores = Store(tmp_path / "one"), Store(tmp_path / "two")
    for one in with_upstream([alone]):
        assert build_cell(one, load_grid(file, SETTINGS), stores[0]) == "built"
    events: list[CellEvent] = []
    outcome = run_local(with_upstream([cell]), grid, stores[1], jobs=2, gpus=(), on_event=events.append)
    assert outcome.complete, outcome.failed
    assert any(event.state == "progress" for event in events)
    weights = [load_file(store.folder(cell.address) / "model.safetensors") for store in stores]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)
    assert stores[1].record(cell.address).summary["processes"] == 2


def test_more_processes_than_gpus_are_an_error(tmp_path: Path) -> None:
    grid = load_grid(write_raw_grid(tmp_path), [*SETTINGS, "paradigms.sasrec.processes=3"])
    store = Store(tmp_path / "runs")
    cells = with_upstream([named(cells_of(grid), NAME)])
    for cell in cells[:-1]:
        build_cell(cell, grid, store)
    outcome = run_local(cells, grid, store, jobs=3, gpus=("GPU-a", "GPU-b"))
    assert outcome.failed == {
        NAME: "processes = 3 needs as many GPUs of one machine, and this run has 2; set processes to that or less, "
        "which gives the same results"
    }
