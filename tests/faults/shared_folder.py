"""Two hosts build one store on a folder that they share, and one of them is killed, or sleeps beyond its lease.

    PYTHONPATH=tests:src python tests/faults/shared_folder.py /mnt/one /mnt/two --rounds 4

The folder is mounted twice on this machine, by two clients of its file system. Each host is a namespace with processes, a
name and a network of its own (see `kits.hosts`; root makes them), and sees one of the two mounts under the first one's
path. After each round all that is published must have the bytes of an undisturbed run on a local disk, `verify --deep`
must find nothing, and no lock and no work folder may be left. Prints a table as `disturbing` does.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mmgrid
from faults.disturbances import undisturbed
from faults.disturbing import Tally
from faults.victims import Cells
from kits.hosts import Host, Switch
from kits.processes import finish, until
from mmgrid.store.lock import LOCK_SUFFIX, holder

Run = subprocess.Popen[str]


def try_folder(one: Path, two: Path, rounds: int, tally: Tally, seed: int = 0) -> None:
    """All faults, so many times each. one, two: mounts of the shared folder."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as local, tempfile.TemporaryDirectory(dir=one) as shared, Switch() as switch:
        alone = Cells.make(Path(local))
        seconds = undisturbed(alone)
        cells = Cells.make(Path(shared))
        hosts = [_host(switch, number, mounts, Path(local)) for number, mounts in ((1, {}), (2, {two: one}))]
        faults: dict[str, Callable[[Run], bool]] = {
            "two at once": lambda first: True,
            "one killed": lambda first: _kill(first, draw.uniform(0, 2 * seconds)),
            "one asleep beyond its lease": lambda first: _stop(first, cells, hosts[0].name),
        }
        for fault, disturb in faults.items():
            for _ in range(rounds):
                losses = None
                while losses is None:  # the disturbance came when that run had ended
                    losses = _losses(cells, alone.expected, hosts, disturb)
                    cells.remove()
                tally.note(f"shared folder: {fault}", losses)


def _host(switch: Switch, number: int, mounts: dict[Path, Path], logs: Path) -> Host:
    """A host that is ready when it says so."""
    log = logs / f"host{number}.log"
    host = Host(switch, number, mounts, ["sh", "-c", "echo ready; exec sleep infinity"], {}, log)
    until(lambda: "ready" in log.read_text())
    return host


def _losses(
    cells: Cells, expected: dict[str, str], hosts: list[Host], disturb: Callable[[Run], bool]
) -> list[str] | None:
    """A line for each loss; None if there was nothing to disturb any more."""
    command = [sys.executable, "-m", "mmgrid", *map(str, cells.command())]
    source = {"PYTHONPATH": str(Path(mmgrid.__file__).parents[1])}
    first, second = (host.start(command, source) for host in hosts)
    in_time = disturb(first)
    ends = {"the second run": finish(second)}
    if first.poll() is None:
        os.killpg(first.pid, signal.SIGCONT)  # if it sleeps
    ended = finish(first)
    if ended[0] != -signal.SIGKILL:
        ends["the first run"] = ended
    found = [f"{name} ended with {code}: {(out + err)[-2500:]}" for name, (code, out, err) in ends.items() if code]
    if cells.found() != expected:
        found.append("other files were published than by an undisturbed run")
    verified = subprocess.run(
        [sys.executable, "-m", "mmgrid", "verify", str(cells.place), "--deep"], capture_output=True, text=True
    )
    if verified.returncode:
        found.append(f"verify: {verified.stdout[-300:]}")
    left = [path.name for path in cells.place.rglob("*") if path.suffix in (LOCK_SUFFIX, ".work")]
    return [*found, *(f"{name} was left" for name in left)] if in_time else None


def _kill(first: Run, after: float) -> bool:
    time.sleep(after)
    alive = first.poll() is None
    if alive:
        os.killpg(first.pid, signal.SIGKILL)
    return alive


def _stop(first: Run, cells: Cells, host: str) -> bool:
    """SIGSTOP to all of its processes, while it builds a cell."""

    def builds() -> bool:
        holders = map(holder, cells.place.rglob(f"*{LOCK_SUFFIX}"))
        return any(one is not None and one.host == host for one in holders)

    until(lambda: builds() or first.poll() is not None)
    alive = first.poll() is None
    if alive:
        os.killpg(first.pid, signal.SIGSTOP)
    return alive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mounts", type=Path, nargs=2, help="where the shared folder is mounted, by two clients")
    parser.add_argument("--rounds", type=int, default=4, help="of each fault")
    given = parser.parse_args()
    tally = Tally()
    one, two = given.mounts
    try_folder(one, two, given.rounds, tally)
    print(tally.table())
    sys.exit(any(tally.lost.values()))


if __name__ == "__main__":
    main()
