"""Threads that process many items: what happens where the system starts no more of them."""

import itertools
import threading
import warnings

import numpy as np
import pytest

from mmgrid.merging.arrays.parallel import for_each


def _only(monkeypatch: pytest.MonkeyPatch, threads: int) -> list[threading.Thread]:
    """Let so many more threads start; returns those that do."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(started) == threads:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return started


def test_no_thread_works_on_when_another_could_not_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started = _only(monkeypatch, 1)
    with pytest.raises(RuntimeError, match="new thread"):
        for_each(itertools.count(), lambda _: None, workers=2)  # it would never end
    assert len(started) == 1
    assert not started[0].is_alive()


@pytest.mark.parametrize("workers", [1, 2])
def test_values_that_become_too_large_cause_no_warning(workers: int) -> None:
    found: list[np.ndarray] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for_each([np.full(4, 3e38, np.float32)] * 3, lambda one: found.append(one * 10), workers)
    assert np.isinf(found).all()
