"""Whether a process works: by the time that it has had on the processor."""

import time
from collections.abc import Callable
from contextlib import suppress

_LEAST_SHARE = 0.002  # of one core: below, a process only waits; threads that wake up to look at something need less


class SignsOfLife:
    """The signs of one process, and of those that it has started.

    One that is stopped, waits for a lock, or for a disk that does not answer, uses no processor.
    """

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid, self._clock = pid, clock
        self._used, self._since = self._processor_seconds(), clock()

    def renew(self) -> None:
        """It has said something."""
        self._used, self._since = self._processor_seconds(), self._clock()

    def idle_seconds(self) -> float:
        """How long it has done nothing."""
        idle = self._clock() - self._since
        if self._processor_seconds() - self._used > _LEAST_SHARE * idle:
            self.renew()
            return 0.0
        return idle

    def _processor_seconds(self) -> float:
        import psutil

        total = 0.0
        with suppress(psutil.Error):
            process = psutil.Process(self._pid)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    times = one.cpu_times()
                    total += times.user + times.system
        return total
