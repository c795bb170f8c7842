"""What a command does when it is told to stop: by Ctrl-C (SIGINT), by a scheduler or a shutdown (SIGTERM), or because its
terminal was closed (SIGHUP).

All end it in the same way: what was begun is cleaned up, workers are stopped, and one line says how to go on.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import typer

from mmgrid.visible import visible

BY_CTRL_C, _BY_SIGNAL = 130, 128  # exit codes of shells: 128 and the number of the signal
_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}


_received: list[int] = []  # the signals that ended this process, since typer does not pass on what was raised


def on_termination_stop() -> None:
    """Let SIGTERM and SIGHUP stop this process as Ctrl-C does. A second one ends it at once.

    Under nohup, SIGHUP stays without effect, and in the background of a script SIGINT.
    """
    if threading.current_thread() is threading.main_thread():
        _received.clear()
        signal.signal(signal.SIGTERM, _stop)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop)


def is_stopped() -> bool:
    """Whether a signal has come, whatever became of the exception: libraries that start make another one of it."""
    return bool(_received)


def say_stopped(
    kept: str = "nothing that was published has changed; the same command begins again, or goes on",
) -> int:
    """Print what stopped the command, and how to go on; returns the exit code.

    kept: what has become of the work.
    """
    number = signal.Signals(_received[-1] if _received else signal.SIGINT)
    what = _WORDS[number.name]
    with contextlib.suppress(OSError):  # the terminal is gone
        typer.echo(f"{what}; {visible(kept)}", err=True)
    return _BY_SIGNAL + number


def ended(command: Callable[[], None]) -> None:
    """Run a command, and end the process with its exit code, also if it was stopped.

    Python would end a stopped process by SIGINT if the signal came while it compiled a text, as at imports, and threads of
    C libraries that are still starting would end it by SIGABRT.
    """
    try:
        command()
    except SystemExit as end:
        if not is_stopped():
            raise
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _received.append(number)
    raise KeyboardInterrupt
