"""Two functions at once give, and raise, what they do one after the other."""

from threading import Barrier

import pytest

from mmgrid.machine import beside
from mmgrid.machine.beside import both


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
