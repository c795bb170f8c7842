"""Signals that come while a process is started are handled afterwards."""

import signal
import threading

import pytest

from mmgrid.machine.held_signals import held_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_comes_at_the_end(number: signal.Signals) -> None:
    done: list[str] = []
    before = signal.signal(number, lambda *_: done.append("handled"))
    try:
        with held_signals():
            signal.raise_signal(number)
            done.append("started")
        assert done == ["started", "handled"]
        signal.raise_signal(number)
        assert done == ["started", "handled", "handled"]
    finally:
        signal.signal(number, before)


def test_ctrl_c_still_ends_what_follows() -> None:
    done = []

    def start() -> None:
        with held_signals():
            signal.raise_signal(signal.SIGINT)
            done.append("started")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert done == ["started"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with held_signals():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_hold_nothing() -> None:
    found = []

    def run() -> None:
        with held_signals():
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]
