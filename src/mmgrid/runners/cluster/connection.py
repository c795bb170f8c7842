"""The connection of this process to a Ray cluster."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mmgrid.machine.cores import available_cores
from mmgrid.machine.gpus import visible_gpus
from mmgrid.runners.cluster.errors import ClusterError
from mmgrid.runners.cluster.machines import Machines
from mmgrid.runners.cluster.ray_module import imported_ray

log = logging.getLogger(__name__)

LOCAL = "local"
_CLOSING_SECONDS = 20.0
_SETTINGS = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",  # else Ray ends this process before the run can say why
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # what builds cells is what the user waits for; read by a cluster that is started here
}


@contextmanager
def connected(address: str, cores: int | None = None) -> Iterator[Machines]:
    """The machines of a cluster, as long as this context lasts.

    address: of the head, such as "10.0.0.1:6379"; "auto" for that of the cluster that this machine is part of; "local"
    starts one on this machine alone, and ends it. cores: that "local" gives to cells; None: all.

    Raises:
        ClusterError: ray is not installed, or no cluster answers.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    ray = imported_ray()
    here = {"num_cpus": cores or available_cores(), "num_gpus": len(visible_gpus()), "include_dashboard": False}
    stops = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **(here if address == LOCAL else {}))
    except (ConnectionError, RuntimeError, ValueError, OSError, AssertionError) as error:
        raise ClusterError(
            f"--ray {address}: no Ray cluster answers there ({_first_line(error)}); start one with `ray start --head`, "
            "join this machine to it with `ray start --address=…`, and give the address of its head, `auto`, or `local`"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stops)  # Ray has its own
    # Ray prints what happens to workers and machines on standard output, whatever it is told; a run says it by itself.
    ray._private.worker.print_to_stdstream = lambda data, **_: log.debug("%s", data)
    machines = Machines(address)
    try:
        yield machines
    finally:
        machines.close()
        _close()


def _close() -> None:
    """Disconnect; without the head that may take forever."""
    closing = threading.Thread(target=imported_ray().shutdown, name="ray shutdown", daemon=True)
    closing.start()
    with suppress(RuntimeError):
        closing.join(_CLOSING_SECONDS)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].strip() or type(error).__name__
