"""The choice of a worker's next cell: first of the family that it has read, last of those that others work on."""

import time

from mmgrid.grid.cells.cell import Cell
from mmgrid.runners.schedule import Schedule


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
