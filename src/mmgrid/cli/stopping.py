"""What a command does when it is told to stop: by Ctrl-C (SIGINT), by a scheduler or a shutdown (SIGTERM), or because its
terminal was closed (SIGHUP).

All end it in the same way: what was begun is cleaned up, workers are stopped, and one line says how to go on.
"""

import contextlib
import signal
import threading
from types import FrameType

import typer

from mmgrid.visible import visible

BY_CTRL_C, _BY_SIGNAL = 130, 128  # exit codes of shells: 128 and the number of the signal
_WORDS = {"SIGTERM": "terminated", "SIGHUP": "hung up"}

_received: list[int] = []  # the signals that ended this process, since typer does not pass on what was raised


def on_termination_stop() -> None:
    """Let SIGTERM and SIGHUP stop this process as Ctrl-C does. A second one ends it at once.

    Under nohup, SIGHUP stays without effect.
    """
    if threading.current_thread() is threading.main_thread():
        _received.clear()
        signal.signal(signal.SIGTERM, _stop)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _stop)


def say_stopped(
    kept: str = "nothing that was published has changed; the same command begins again, or goes on",
) -> int:
    """Print what stopped the command, and how to go on; returns the exit code.

    kept: what has become of the work.
    """
    what = _WORDS[signal.Signals(_received[-1]).name] if _received else "interrupted"
    with contextlib.suppress(OSError):  # the terminal is gone
        typer.echo(f"{what}; {visible(kept)}", err=True)
    return _BY_SIGNAL + _received[-1] if _received else BY_CTRL_C


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    _received.append(number)
    raise KeyboardInterrupt
