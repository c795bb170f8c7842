"""The machines of a Ray cluster, which may come and go, and whether its head answers."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmgrid.runners.cluster.errors import ClusterError
from mmgrid.runners.cluster.ray_module import imported_ray

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
SILENT_SECONDS = 6.0  # without an answer of the head, after which it may be gone
HEAD_SECONDS = 30.0  # after which it is lost
NONE_SECONDS = 60.0  # without any machine, after which none is expected any more


@dataclass(frozen=True)
class Machine:
    """A machine with what Ray may give of it.

    name: its host's name and address. node: its number in the cluster. memory: bytes.
    """

    name: str
    node: str
    cores: int
    gpus: int
    memory: float


class Machines:
    """The machines, looked at again every few seconds by a thread, since the head may not answer.

    Args:
        address: of the cluster, for messages.
        ask: returns what `ray.nodes` does.
    """

    def __init__(
        self,
        address: str,
        ask: Callable[[], Sequence[dict[str, Any]]] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._ask, self._clock = address, ask or _nodes, clock
        self._unfit: dict[str, str] = {}
        self._done = threading.Event()
        self._found = self._look()
        self._answered = self._peopled = self._clock()
        threading.Thread(target=self._watch, name="machines", daemon=True).start()

    @property
    def silent(self) -> bool:
        """Whether the head does not answer at the moment, so that nothing is known of any machine."""
        return self._clock() - self._answered > SILENT_SECONDS

    @property
    def lost(self) -> bool:
        """Whether the head has been silent for so long that it counts as lost."""
        return self._clock() - self._answered > HEAD_SECONDS

    def now(self) -> list[Machine]:
        """The machines that live and are fit.

        Raises:
            ClusterError: the head is lost, or there is no machine and none has come for a minute.
        """
        if self.lost:
            raise ClusterError(
                f"--ray {self._address}: the head of the cluster has not answered for {HEAD_SECONDS:.0f} s; finished cells "
                "are kept. Start the cluster again; the next run continues from them"
            )
        fit = [one for one in self._found if one.node not in self._unfit and one.cores]
        if fit:
            self._peopled = self._clock()
        elif self._unfit or self._clock() - self._peopled > NONE_SECONDS:
            why = "; ".join(self._unfit.values()) or "all of them are gone, or offer no core"
            raise ClusterError(f"--ray {self._address}: no machine of the cluster can build cells: {why}")
        return fit

    def set_unfit(self, machine: Machine, why: str) -> None:
        """Nothing is built on this machine any more."""
        if machine.node not in self._unfit:
            self._unfit[machine.node] = f"{machine.name}: {why}"
            log.warning("%s: nothing is built there: %s", machine.name, why)

    def close(self) -> None:
        """Look no more."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            try:
                self._found, self._answered = self._look(), self._clock()
            except Exception as error:  # of a head that is gone; what Ray raises then differs
                log.debug("the head does not answer: %s", error)

    def _look(self) -> list[Machine]:
        return sorted((_machine(node) for node in self._ask() if node["Alive"]), key=lambda one: one.name)


def _nodes() -> Sequence[dict[str, Any]]:
    return imported_ray().nodes()


def _machine(node: dict[str, Any]) -> Machine:
    has = node["Resources"]
    return Machine(
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})",
        node["NodeID"],
        int(has.get("CPU", 0)),
        int(has.get("GPU", 0)),
        float(has.get("memory", 0)),
    )
