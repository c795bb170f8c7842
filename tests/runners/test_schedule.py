"""The choice of the next cell: first of the family that a worker has read, last of those of others; none on a full disk."""

import time
from pathlib import Path
from typing import Any

import pytest

from kits.scripted_crew import Scripted
from mmgrid.grid.cells.cell import Cell
from mmgrid.runners import CellEvent
from mmgrid.runners.exact_weights import ExactWeights
from mmgrid.runners.places import Place
from mmgrid.runners.run import Run
from mmgrid.runners.schedule import Schedule
from mmgrid.store import Store


def _cell(name: str, family: str = "", **upstream: Cell) -> Cell:
    return Cell("evaluation", ("semb", name), {"name": name}, upstream, family)


CORPUS = Cell("corpus", ("a",), {})
PLAIN, A1, A2, B1 = _cell("plain"), _cell("a1", "A"), _cell("a2", "A"), _cell("b1", "B")


def test_a_worker_stays_with_the_family_it_has_read() -> None:
    schedule = Schedule.of([PLAIN, B1, A1, A2])
    assert schedule.next_cell("A") == A1
    assert schedule.next_cell("A", other_families=["A"]) == A1  # even if another worker is on it
    assert schedule.next_cell("B", other_families=["A"]) == B1
    assert schedule.next_cell("C") == PLAIN


def test_a_worker_without_a_family_avoids_those_of_others() -> None:
    schedule = Schedule.of([A1, A2, B1, PLAIN])
    assert schedule.next_cell() == A1
    assert schedule.next_cell(other_families=["A"]) == B1
    assert schedule.next_cell(other_families=["A", "B"]) == PLAIN
    assert schedule.next_cell("", other_families=[""]) == A1


def test_the_family_of_another_worker_is_better_than_idling() -> None:
    assert Schedule.of([A1, A2]).next_cell(other_families=["A"]) == A1
    assert Schedule.of([]).next_cell("A", other_families=["A"]) is None


def test_a_cell_waits_for_its_upstream_whatever_its_family() -> None:
    later = _cell("a3", "A", corpus=CORPUS)
    schedule = Schedule.of([later, B1])
    assert schedule.next_cell("A") == B1
    schedule.done.add(CORPUS)
    assert schedule.next_cell("A") == later


def test_what_lies_near_comes_first_within_a_family_or_outside_of_all() -> None:
    models = {name: _cell(f"model-{name}") for name in ("far", "near")}
    far, near = (_cell(name, corpus=CORPUS, model=model) for name, model in models.items())
    schedule = Schedule.of([CORPUS, models["near"]])
    for cell in list(schedule.pending):
        schedule.begin(cell, "here")
    schedule.done.update((CORPUS, *models.values()))
    schedule.pending = dict.fromkeys([far, near])
    assert schedule.next_cell(host="here") == near
    assert schedule.next_cell(host="there") == far
    assert schedule.next_cell() == far


def test_a_cell_that_another_process_builds_is_left_alone_for_a_while() -> None:
    schedule = Schedule.of([A1, B1])
    schedule.wait_until[A1] = time.monotonic() + 1000
    assert schedule.next_cell("A") == B1
    schedule.wait_until[A1] = time.monotonic() - 1
    assert schedule.next_cell("A") == A1


def test_a_family_is_not_part_of_a_cells_identity() -> None:
    assert _cell("x", "A") == _cell("x", "B")
    assert _cell("x", "A").fingerprint == _cell("x").fingerprint


def test_a_run_that_is_given_up_begins_no_cell_that_is_pending_again() -> None:
    below, running, full = _cell("below"), _cell("running"), _cell("full")
    schedule = Schedule.of([below, running, full, PLAIN, B1])
    for cell in (below, running, full):
        del schedule.pending[cell]
    schedule.set_built(below)
    schedule.give_up(full)
    assert schedule.left_out() == [(PLAIN, full.name), (B1, full.name)]
    schedule.reopen(running, below.address, "torn")
    schedule.postpone(A1, 0)
    assert schedule.next_cell() is None
    schedule.give_up(B1)  # another one that was begun before
    assert schedule.left_out() == [(cell, full.name) for cell in (below, running, A1)]
    assert not schedule.pending
    assert schedule.outcome().blocked == {cell.name: full.name for cell in (PLAIN, B1, below, running, A1)}


@pytest.mark.parametrize("answer", [("waiting", ""), ("damaged", (CORPUS.address, "torn"))])
@pytest.mark.parametrize("first", [True, False])
def test_what_comes_back_from_a_worker_is_not_begun_on_a_full_disk(
    answer: tuple[str, Any], first: bool, tmp_path: Path
) -> None:
    """Whether the other worker answers before or after that."""
    answers = {A1: answer, B1: ("full", "no space left")}
    store, events = Store(tmp_path / "runs"), list[CellEvent]()
    crew = Scripted(lambda cell, host: answers[cell], [Place(), Place()])
    run = Run([], store, crew, events.append, ExactWeights([], store))
    schedule = run.schedule = Schedule.of([PLAIN, A1, B1])
    schedule.set_present(CORPUS)
    for cell in (A1, B1) if first else (B1, A1):
        run._give(cell, Place())
    run._receive()
    assert not schedule.pending
    assert schedule.next_cell() is None
    assert schedule.failed == {B1.name: "no space left"}
    lost = {PLAIN, A1} | ({CORPUS} if answer[0] == "damaged" else set())
    assert schedule.blocked == {cell.name: B1.name for cell in lost}
    assert {event.cell for event in events if event.state == "blocked"} == {cell.name for cell in lost}
