"""The state of a cell follows from the store: its own records, and those of its upstream cells."""

from pathlib import Path

from kits.tiny_grid import named, planned
from mmgrid.grid.standing.state import CellState, cell_states
from mmgrid.store import Store

PRETRAIN, PHASE1 = "checkpoint/sasrec/garden/pretrain", "checkpoint/sasrec/garden/phase1"
RANKED = "evaluation/sasrec/garden/phase1"


def test_only_cells_downstream_of_a_failed_cell_are_blocked(tmp_path: Path) -> None:
    cells, store = planned(tmp_path), Store(tmp_path / "runs")
    assert set(cell_states(cells, {}, {}, store).values()) == {CellState("missing")}
    store.note_failure(named(cells, PRETRAIN).address, "the loss is nan")
    found = {cell.name: state for cell, state in cell_states(cells, {}, {}, store).items()}
    assert found[PRETRAIN] == CellState("failed", "the loss is nan")
    assert found[PHASE1] == found[RANKED] == CellState("blocked", PRETRAIN)
    assert found["checkpoint/sasrec/garden/all"] == CellState("missing")
    blocked = {name for name, state in found.items() if state.name == "blocked"}
    assert all("/sasrec/garden/p" in name for name in blocked)
    assert len(blocked) == 5


def test_a_blocked_cell_has_not_failed_even_after_an_older_failure(tmp_path: Path) -> None:
    cells, store = planned(tmp_path), Store(tmp_path / "runs")
    store.note_failure(named(cells, PHASE1).address, "no room")
    damaged = {named(cells, PRETRAIN): "its record cannot be read"}
    found = {cell.name: state for cell, state in cell_states(cells, {}, damaged, store).items()}
    assert found[PRETRAIN] == CellState("damaged", "its record cannot be read")
    assert found[PHASE1] == found[RANKED] == CellState("blocked", PRETRAIN)


def test_a_failure_of_another_recipe_does_not_count(tmp_path: Path) -> None:
    cells, store = planned(tmp_path), Store(tmp_path / "runs")
    store.note_failure(named(cells, PRETRAIN).address, "the loss is nan")
    calmer = planned(tmp_path, "paradigms.sasrec.learning_rate=0.0001")
    assert set(cell_states(calmer, {}, {}, store).values()) == {CellState("missing")}
