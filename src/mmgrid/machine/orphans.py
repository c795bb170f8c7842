"""Ends a process whose parent is gone, however it went: nobody would take its result, and its cell holds a lock."""

import os
import threading
from multiprocessing.connection import wait
from multiprocessing.process import parent_process

PARENT_GONE = 75  # the exit code; EX_TEMPFAIL of sysexits.h


def end_with_parent() -> None:
    """From now on, end this process at once when the process that started it ends.

    What it loses is what a kill loses: the cell in work, from its last step checkpoint on.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), name="parent watch", daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(PARENT_GONE)
