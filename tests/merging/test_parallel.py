"""Threads that process many items: what happens where the system starts no more of them."""

import itertools
import threading

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
