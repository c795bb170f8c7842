"""A grid on a Ray cluster of separate hosts, to which things happen: `make test-ray`.

Each host has a network, processes and a name of its own, and its own mount of the shared folder.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kits.hosts import Host, Switch, possible
from kits.processes import accident, finish, until
from kits.tiny_grid import BASELINES, contents, write_raw_grid
from mmgrid.runners import run_local

pytest.importorskip("ray", reason="ray is not installed: make test-ray")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not possible(), reason="separate hosts are namespaces of Linux, which root makes"),
    pytest.mark.filterwarnings("default"),
]

GARDEN, KITCHEN = "corpus/garden", "corpus/kitchen"
LAST = "evaluation/baseline/kitchen/random"
HEAD = "10.77.0.1:6379"
SECRET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}
RAY = SECRET | {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# The head finds out within seconds what else would take it a minute, and a machine without a head gives up as soon.
HASTY = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
COMMAND = """\
from mmgrid.runners.cluster import RayCrew

RayCrew.idle_seconds = 8.0
from mmgrid.cli.main import main

main()
"""
# What happens to a cell while it is built is in a file of the shared folder; who has begun it is written down there.
PLANNED = """
import functools, socket

build = store.Store.build
store.try_lock = functools.partial(store.try_lock, stale_seconds=15.0)
plans = Path({plans!r})

def planned(self, address, recipe, upstream, make):
    def held(folder):
        name = address.name.replace("/", "_")
        with (plans / (name + ".tries")).open("a") as stream:
            stream.write(socket.gethostname() + "\\n")
        plan = plans / name
        while plan.exists():
            what, *rest = plan.read_text().split()
            if rest:  # only once
                plan.unlink()
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif what == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif what == "memory":
                raise MemoryError("no room")
            time.sleep(0.05)
        return make(folder)

    return build(self, address, recipe, upstream, held)

store.Store.build = planned
"""


class Cluster:
    """The cluster, a shared folder, and runs on it.

    served: the shared folder as it is on this machine; hosts see it as `shared`.
    """

    def __init__(self, switch: Switch, folder: Path) -> None:
        self._switch, self._folder = switch, folder
        self.served, self.shared = folder / "served", folder / "shared"
        self.file = write_raw_grid(_made(self.served))
        _made(self.shared)
        self._plans = _made(self.served / "plans")
        code = PLANNED.format(plans=str(self.shared / "plans"))
        self._environment = RAY | accident(self.served / "accident", code)
        self._environment["PYTHONPATH"] = self._environment["PYTHONPATH"].replace(str(self.served), str(self.shared))
        self.head = self.join(1, "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
        self.wait_for(1)
        self.user = self.join(5, f"--address={HEAD}", "--num-cpus=0")
        for number in (2, 3, 4):
            self.join(number)
        self.wait_for(2, 3, 4, 5)

    def join(self, number: int, *how: str) -> Host:
        """A new host, which is part of the cluster. That of the user (5) waits for its head as long as by default."""
        how = how or (f"--address={HEAD}", "--num-cpus=1")
        hasty = {} if number == 5 else HASTY
        start = ["-m", "ray.scripts.scripts", "start", f"--node-ip-address=10.77.0.{number}", "--block", *how]
        mounts = {self.served: self.shared}
        environment = self._environment | hasty
        return Host(self._switch, number, mounts, [sys.executable, *start], environment, self._log_of(number))

    def wait_for(self, *numbers: int) -> None:
        """Until these hosts are part of the cluster."""
        for number in numbers:
            until(lambda file=self._log_of(number): "Ray runtime started" in file.read_text(errors="replace"))

    def plan(self, cell: str, what: str) -> None:
        """While this cell is built: `kill`, `stop` or `memory`, perhaps `once`; or `hold`."""
        (self._plans / cell.replace("/", "_")).write_text(what)

    def tries(self, cell: str) -> list[str]:
        """The names of the hosts that have begun it."""
        file = self._plans / f"{cell.replace('/', '_')}.tries"
        return file.read_text().split() if file.exists() else []

    def events(self, store: str) -> str:
        """What a run has written down so far."""
        return "".join(file.read_text() for file in (self.served / store / "logs").glob("events-*.jsonl"))

    @property
    def hosts(self) -> list[Host]:
        return self._switch.hosts

    def forget(self) -> None:
        for file in self._plans.iterdir():
            file.unlink()

    def start(self, store: str, host: Host | None = None) -> "subprocess.Popen[str]":
        """A run of the cells that need no training, from the user's host or another one."""
        host = host or self.user
        arguments = ["run", str(self.shared / self.file.name), "--only", BASELINES, "--store", str(self.shared / store)]
        command = [sys.executable, "-c", COMMAND, *arguments, "--ray", "auto", "--json"]
        return host.start(command, {"RAY_gcs_rpc_server_reconnect_timeout_s": "86400"})

    def _log_of(self, number: int) -> Path:
        return self._folder / f"host{number}.log"

    def log(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-2000:] for file in sorted(self._folder.glob("host*.log")))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _ended(run: "subprocess.Popen[str]") -> tuple[int, list[Any], str]:
    code, out, err = finish(run)
    return code, [json.loads(line) for line in out.splitlines()], err


def _retold(lines: list[Any], cell: str) -> list[str]:
    """Why a cell was begun again."""
    return [line["message"] for line in lines if line.get("cell") == cell and line["event"] == "started"][1:]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Switch() as switch:
        yield Cluster(switch, tmp_path_factory.mktemp("cluster"))


@pytest.fixture(autouse=True)
def _nothing_planned(cluster: Cluster) -> None:
    cluster.forget()


@pytest.fixture(scope="module")
def locally(cluster: Cluster) -> dict[str, dict[str, str]]:
    """The files of the cells as the local runner builds them."""
    from mmgrid.cli.session import Session

    session = Session.open(cluster.file, cluster.served / "local")
    cells = session.chosen([BASELINES])
    assert run_local(cells, session.grid, session.store, jobs=1).complete
    return contents(session.store.root)


def test_a_grid_on_three_hosts_is_as_on_one_machine(cluster: Cluster, locally: dict[str, Any]) -> None:
    code, lines, err = _ended(cluster.start("plain"))
    assert (code, err) == (0, ""), (lines, cluster.log())
    assert contents(cluster.served / "plain") == locally
    assert len(lines[-1]["built"]) == 6
    hosts = {tuple(cluster.tries(cell)) for cell in (GARDEN, KITCHEN)}
    assert len(hosts) == 2
    for domain in ("garden", "kitchen"):  # what shares inputs lies together
        corpus, *ranked = (
            cluster.tries(f"{kind}/{domain}{of}")
            for kind, of in (("corpus", ""), ("evaluation/baseline", "/popularity"))
        )
        assert ranked == [corpus]
    written = [json.loads(line) for line in cluster.events("plain").splitlines()]
    assert written == lines[:-1]
    assert {key for line in written for key in line} == {"time", "cell", "event", *("step", "steps", "loss", "rate"), "seconds_left", "message"}  # fmt: skip
    assert not list((cluster.served / "plain/logs").glob("machines-*"))


@pytest.mark.parametrize(
    ("what", "told"),
    [("kill", "its process ended with code -9"), ("stop", "its process did nothing for 8 s"), ("memory", "no room")],
)
def test_a_worker_that_is_lost_costs_an_attempt(
    cluster: Cluster, locally: dict[str, Any], what: str, told: str
) -> None:
    cluster.plan(GARDEN, f"{what} once")
    code, lines, err = _ended(cluster.start(what))
    assert (code, err) == (0, ""), (lines, cluster.log())
    assert contents(cluster.served / what) == locally
    first, second = cluster.tries(GARDEN)
    assert first != second
    again = _retold(lines, GARDEN)[0]
    assert again.startswith(f"tried again: on {first} (10.77.0.")
    assert told in again


def test_a_cell_that_always_kills_its_worker_fails_and_the_others_go_on(cluster: Cluster) -> None:
    cluster.plan(GARDEN, "kill")
    code, lines, _ = _ended(cluster.start("deadly"))
    assert code == 1
    assert set(cluster.tries(GARDEN)) == {"host2", "host3", "host4"}
    assert len(cluster.tries(GARDEN)) == 3
    outcome = lines[-1]
    assert len(outcome["built"]) == 3
    (reason,) = outcome["failed"].values()
    assert reason.startswith("tried 3 times: on host")
    assert reason.count("its process ended with code -9") == 3
    assert set(outcome["blocked"].values()) == {GARDEN}


@pytest.mark.parametrize("how", ["cut", "kill"])
def test_a_host_that_is_cut_off_or_killed_loses_its_cell_to_another(
    cluster: Cluster, locally: dict[str, Any], how: str
) -> None:
    """What the one builds that is cut off, and sees the store still, is used if it is first."""
    cluster.plan(GARDEN, "hold")
    run = cluster.start(f"host-{how}")
    until(lambda: cluster.tries(GARDEN), run)
    (name,) = cluster.tries(GARDEN)
    (host,) = (host for host in cluster.hosts if host.name == name)
    getattr(host, how)()
    until(lambda: "its machine is gone or" in cluster.events(f"host-{how}"), run)
    until(lambda: how == "cut" or len(cluster.tries(GARDEN)) == 2, run)
    cluster.forget()
    code, lines, err = _ended(run)
    assert (code, err) == (0, ""), (lines, cluster.log())
    assert contents(cluster.served / f"host-{how}") == locally
    assert (
        _retold(lines, GARDEN)[0] == f"tried again: on {name} ({host.address}): its machine is gone or does not answer"
    )
    assert lines[-1]["failed"] == {}


def test_without_its_head_a_run_says_so_and_the_next_one_goes_on(cluster: Cluster, locally: dict[str, Any]) -> None:
    cluster.plan(LAST, "hold")
    run = cluster.start("headless")
    until(lambda: cluster.tries(LAST), run)
    cluster.head.kill()
    code, lines, err = _ended(run)
    assert (code, lines[-1]["event"]) == (1, "started")
    assert "--ray auto: the head of the cluster has not answered for 30 s; finished cells are kept." in err
    assert "Traceback" not in err
    cluster.forget()
    other = cluster.join(6, "--head", "--port=6379", "--num-cpus=1", "--include-dashboard=false")
    cluster.wait_for(6)
    code, lines, err = _ended(cluster.start("headless", other))
    assert (code, err) == (0, ""), (lines, cluster.log())
    assert LAST in lines[-1]["built"]
    assert KITCHEN in lines[-1]["present"]
    assert contents(cluster.served / "headless") == locally
