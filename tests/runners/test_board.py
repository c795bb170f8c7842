"""Which cell a process is handed next: rather one of the sweep it has read, and not one that another is at."""

import time

from mmgrid.grid.cells.cell import Cell
from mmgrid.runners.local import _Board


def _cell(name: str, family: str = "", **upstream: Cell) -> Cell:
    return Cell("evaluation", ("semb", name), {"name": name}, upstream, family)


CORPUS = Cell("corpus", ("a",), {})
PLAIN, A1, A2, B1 = _cell("plain"), _cell("a1", "A"), _cell("a2", "A"), _cell("b1", "B")


def _board(*cells: Cell) -> _Board:
    return _Board(dict.fromkeys(cells))


def test_a_process_stays_with_the_family_it_has_read() -> None:
    board = _board(PLAIN, B1, A1, A2)
    assert board.ready("A") == A1
    assert board.ready("A", others=["A"]) == A1  # also if another process is at it
    assert board.ready("B", others=["A"]) == B1
    assert board.ready("C") == PLAIN


def test_a_process_without_one_leaves_others_theirs() -> None:
    board = _board(A1, A2, B1, PLAIN)
    assert board.ready() == A1
    assert board.ready(others=["A"]) == B1
    assert board.ready(others=["A", "B"]) == PLAIN
    assert board.ready("", others=[""]) == A1


def test_rather_anothers_family_than_nothing_to_do() -> None:
    assert _board(A1, A2).ready(others=["A"]) == A1
    assert _board().ready("A", others=["A"]) is None


def test_what_rests_on_something_waits_for_it_whatever_its_family() -> None:
    later = _cell("a3", "A", corpus=CORPUS)
    board = _board(later, B1)
    assert board.ready("A") == B1
    board.done.add(CORPUS)
    assert board.ready("A") == later


def test_what_another_process_is_known_to_build_is_left_for_a_while() -> None:
    board = _board(A1, B1)
    board.wait_until[A1] = time.monotonic() + 1000
    assert board.ready("A") == B1
    board.wait_until[A1] = time.monotonic() - 1
    assert board.ready("A") == A1


def test_a_family_is_no_part_of_what_a_cell_is() -> None:
    assert _cell("x", "A") == _cell("x", "B")
    assert _cell("x", "A").fingerprint == _cell("x").fingerprint
