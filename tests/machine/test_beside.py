"""What is done at once, or ahead, gives and raises what it does one after the other."""

from collections.abc import Generator, Iterator
from threading import Barrier, Event

import pytest

from mmgrid.machine import beside
from mmgrid.machine.beside import ahead, begun, both


def test_both_run_at_once(monkeypatch):
    monkeypatch.setattr(beside, "available_cores", lambda: 2)
    met = Barrier(2)
    assert [place >= 0 for place in both(lambda: met.wait(60), lambda: met.wait(60))] == [True, True]


@pytest.mark.parametrize("cores", [1, 2])
def test_the_error_of_the_first_one_counts(monkeypatch, cores):
    monkeypatch.setattr(beside, "available_cores", lambda: cores)
    assert both(lambda: "one", lambda: 2) == ("one", 2)
    with pytest.raises(ZeroDivisionError):
        both(lambda: 1 // 0, lambda: [][0])
    with pytest.raises(IndexError):
        both(lambda: 1, lambda: [][0])


def test_the_next_value_is_made_while_the_last_one_is_used(monkeypatch):
    monkeypatch.setattr(beside, "available_cores", lambda: 2)
    second = Event()

    def values() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    found = ahead(values())
    assert next(found) == 1
    assert second.wait(60)
    assert [*found] == [2]


@pytest.mark.parametrize("cores", [1, 2])
def test_values_that_are_made_ahead(monkeypatch, cores):
    monkeypatch.setattr(beside, "available_cores", lambda: cores)
    closed = []

    def values(count: int) -> Iterator[int]:
        try:
            yield from range(count)
            raise ValueError("after good values")
        finally:
            closed.append(count)

    assert [*ahead(iter(range(5)))] == [0, 1, 2, 3, 4]
    assert [*ahead(iter([]))] == []
    found = ahead(values(3))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="after good values"):
        next(found)
    left = ahead(values(9))
    assert next(left) == 0
    left.close()  # pyright: ignore[reportAttributeAccessIssue] - it is a generator
    assert closed == [3, 9]


def test_what_is_begun_is_made_before_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(beside, "available_cores", lambda: 2)
    made = []
    enough = Event()

    def values() -> Generator[int]:
        for value in range(5):
            made.append(value)
            if value == 1:
                enough.set()
            yield value

    with begun(values(), 2) as found:
        assert enough.wait(60)
        assert made == [0, 1]  # and no more
        assert [*found] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("most", [1, 3, 9])
def test_an_error_of_what_is_begun_comes_after_the_values_before_it(monkeypatch, cores, most):
    monkeypatch.setattr(beside, "available_cores", lambda: cores)
    closed = []

    def values() -> Generator[int]:
        try:
            yield from range(3)
            raise ValueError("after good values")
        finally:
            closed.append(True)

    with begun(values(), most) as found:
        assert [next(found) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="after good values"):
            next(found)
    assert closed == [True]
    with pytest.raises(KeyError), begun(values(), most):
        raise KeyError  # nobody asks
    with begun((value for value in ()), most) as found:
        assert [*found] == []
