"""What a command does when it is told to stop, by Ctrl-C (SIGINT) or by a scheduler or a shutdown (SIGTERM).

Both end it in the same way: what was begun is cleaned up, workers are stopped, and one line says how to go on.
"""

import signal
import threading
from types import FrameType

import typer

from mmgrid.visible import visible

BY_CTRL_C, _BY_SIGTERM = 130, 143  # exit codes of shells: 128 and the number of the signal


_received: list[int] = []  # the signals that ended this process, since typer does not pass on what was raised


def on_termination_stop() -> None:
    """Let SIGTERM stop this process as Ctrl-C does. A second one ends it at once."""
    if threading.current_thread() is threading.main_thread():
        _received.clear()
        signal.signal(signal.SIGTERM, _stop)


def say_stopped(
    kept: str = "nothing that was published has changed; the same command begins again, or goes on",
) -> int:
    """Print what stopped the command, and how to go on; returns the exit code.

    kept: what has become of the work.
    """
    what = "terminated" if _received else "interrupted"
    typer.echo(f"{what}; {visible(kept)}", err=True)
    return _BY_SIGTERM if _received else BY_CTRL_C


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _received.append(number)
    raise KeyboardInterrupt
