"""The choice of the next cell: first of the family that a worker has read, last of those of others; none on a full disk."""

import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import pytest

from mmgrid.grid.cells.cell import Cell
from mmgrid.runners import CellEvent, local
from mmgrid.runners.exact_weights import ExactWeights
from mmgrid.runners.places import Place
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
    schedule, events = Schedule.of([PLAIN]), list[CellEvent]()
    schedule.set_present(CORPUS)
    store, nobody = Store(tmp_path / "runs"), cast(Any, None)
    for cell in (A1, B1) if first else (B1, A1):
        ours, theirs = Pipe()
        theirs.send(answers[cell])
        local._receive_results(
            schedule, [local._Worker(nobody, ours, Place(), cell)], store, events.append, ExactWeights([], store)
        )
    assert not schedule.pending
    assert schedule.next_cell() is None
    assert schedule.failed == {B1.name: "no space left"}
    lost = {PLAIN, A1} | ({CORPUS} if answer[0] == "damaged" else set())
    assert schedule.blocked == {cell.name: B1.name for cell in lost}
    assert {event.cell for event in events if event.state == "blocked"} == {cell.name for cell in lost}
