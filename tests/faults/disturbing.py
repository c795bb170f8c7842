"""Disturbs runs and merges in many ways, and counts what survived: `make faults`.

    PYTHONPATH=tests:src python tests/faults/disturbing.py --kills 100

After each disturbance the same command is run again, without one. It has survived if that run finishes, and all that is
published then has the bytes of an undisturbed run. What was published before must be there still. Prints a table, as in
docs/RELIABILITY.md, and a line for each loss.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults.victims import Cells, Merge, Victim
from kits.processes import finish, living, until


@dataclass
class Tally:
    """Fault → how often it was tried, and what was lost."""

    tried: dict[str, int] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def note(self, fault: str, losses: list[str]) -> None:
        """Count one attempt."""
        self.tried[fault] = self.tried.get(fault, 0) + 1
        print(f"{sum(self.tried.values())} {fault}", file=sys.stderr, flush=True)
        for loss in losses:
            self.losses.append(f"{fault}: {loss}")
            print(f"LOST {fault}: {loss}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """As in docs/RELIABILITY.md."""
        rows = ["| fault | tried | survived | lost |", "|---|---|---|---|"]
        for fault, tried in self.tried.items():
            lost = sum(loss.startswith(f"{fault}: ") for loss in self.losses)
            rows.append(f"| {fault} | {tried} | {tried - lost} | {lost} |")
        return "\n".join(rows)


def undisturbed(victim: Victim) -> float:
    """Run the command once, remember what it leaves, and remove that; returns the seconds that it took."""
    clock = time.monotonic()
    code, out, err = finish(victim.start())
    assert code == 0, out + err
    seconds = time.monotonic() - clock
    victim.expected = victim.found()
    shutil.rmtree(victim.place)
    return seconds


def losses_of(victim: Victim, before: dict[str, str]) -> list[str]:
    """Run again, and say what is not as it should be. before: what was published when the fault was over."""
    wrong = [
        f"{name} was published with other bytes"
        for name, digest in before.items()
        if victim.expected.get(name) != digest
    ]
    if isinstance(victim, Merge) and before:  # a merge replaces no output
        return wrong if before == victim.expected else [*wrong, "the output is not whole"]
    code, out, err = finish(victim.start())
    if code != 0:
        wrong.append(f"the next run ended with {code}: {(out + err)[-300:]}")
    if victim.found() != victim.expected:
        wrong.append("the next run left other files than an undisturbed one")
    return wrong


def killed(victim: Victim, after: float, whom: str) -> list[str]:
    """SIGKILL to the main process, to a worker, or to all."""
    process = victim.start()
    time.sleep(after)
    if whom == "all":
        _signal_group(process, signal.SIGKILL)
    elif whom == "a worker":
        for pid in _children(process.pid)[:1]:
            _signal(pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    return [*_orphans(process), *losses_of(victim, victim.found())]


def stopped(victim: Victim, after: float, number: signal.Signals) -> list[str]:
    """SIGINT or SIGTERM: the exit code of the signal, one line that says how to go on, and no process is left."""
    process = victim.start()
    time.sleep(after)
    process.send_signal(number)
    code, _, err = finish(process)
    wrong = _orphans(process)
    begun = "Traceback" not in err  # before Python has imported the command, it knows no better words
    if code not in (0, 128 + number, -number) or (
        code == 128 + number and "run" not in err and "command" not in err and begun
    ):
        wrong.append(f"{number.name} ended with {code}: {err[-200:]!r}")
    return [*wrong, *losses_of(victim, victim.found())]


def paused(victim: Victim, after: float, seconds: float = 1.0) -> list[str]:
    """SIGSTOP to all processes, another runner meanwhile, SIGCONT."""
    process = victim.start()
    time.sleep(after)
    _signal_group(process, signal.SIGSTOP)
    time.sleep(seconds)
    _signal_group(process, signal.SIGCONT)
    code, out, err = finish(process)
    wrong = [] if code == 0 else [f"ended with {code} after a pause: {(out + err)[-300:]}"]
    return [*wrong, *losses_of(victim, victim.found())]


def at_once(victim: Victim, runners: int = 3) -> list[str]:
    """Several runners of one store: all end well, or say that another one is at work."""
    ends = [finish(process) for process in [victim.start() for _ in range(runners)]]
    wrong = [
        f"ended with {code}: {(out + err)[-300:]}"
        for code, out, err in ends
        if code != 0 and "another" not in out + err
    ]
    return [*wrong, *losses_of(victim, victim.found())]


def full_disk(victim: Victim, room: int) -> list[str]:
    """The place of the output has no more room than `room` bytes, and then enough."""
    with _small_disk(victim.place.parent, room) as resize:
        code, out, err = finish(victim.start())
        wrong = []
        if code != 0 and "no space left" not in out + err:
            wrong.append(f"a full disk is not named: {(out + err)[-300:]}")
        before = victim.found()
        resize(1 << 30)
        wrong += losses_of(victim, before)
    return wrong


def read_only(victim: Victim) -> list[str]:
    """The place of the output is read-only, and then no more."""
    with _small_disk(victim.place.parent, 1 << 30, extra="ro") as resize:
        code, out, err = finish(victim.start())
        wrong = [] if code == 1 and "read-only" in out + err else [f"ended with {code}: {(out + err)[-300:]}"]
        resize(1 << 30)
        wrong += losses_of(victim, {})
    return wrong


def damaged(victim: Victim, file: str, how: str) -> list[str]:
    """One published file is removed, cut, or has a flipped bit; `verify --repair`, then a run."""
    assert finish(victim.start())[0] == 0
    path = victim.place / file
    content = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
    else:
        content = content[: len(content) // 2] if how == "cut" else content
        if how == "flipped":
            content[len(content) // 2] ^= 1
        path.write_bytes(content)
    check = subprocess.run(
        [sys.executable, "-c", "from mmgrid.cli.main import main; main()", "verify", victim.place, "--repair"],
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [] if check.returncode == 1 else [f"{file} {how}: verify ended with {check.returncode}: {check.stdout}"]
    return [*wrong, *losses_of(victim, {})]


def changed_source(victim: Merge, after: float) -> list[str]:
    """A source is replaced while it is merged: there is the merge of the old one, or none."""
    source = Path(str(victim.arguments[-1]).partition("=")[2].rpartition(":")[0]) / "model.safetensors"
    content = source.read_bytes()
    process = victim.start()
    time.sleep(after)
    source.write_bytes(content[:-4] + b"\0\0\0\0")
    code, out, err = finish(process)
    changed = victim.found()
    source.write_bytes(content)
    wrong = [] if code in (0, 1) else [f"ended with {code}: {(out + err)[-300:]}"]
    if code == 1 and changed:
        wrong.append("there is an output although the merge failed")
    shutil.rmtree(victim.place, ignore_errors=True)
    return [*wrong, *losses_of(victim, {})]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _orphans(process: subprocess.Popen[str]) -> list[str]:
    try:
        until(lambda: not living(process.pid))
    except AssertionError:
        return [f"processes are left: {living(process.pid)}"]
    return []


@contextmanager
def _small_disk(place: Path, room: int, extra: str = "") -> Iterator[Callable[[int], None]]:
    """A file system of `room` bytes at `place`; yields what changes its size, and lets it be written to."""

    def mount(options: str, *what: str) -> None:
        subprocess.run(["mount", "-o", options, *what, str(place)], check=True, capture_output=True)

    place.mkdir(parents=True, exist_ok=True)
    mount(",".join(filter(None, [f"size={room}", extra])), "-t", "tmpfs", "tmpfs")
    try:
        yield lambda size: mount(f"remount,rw,size={size}")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _small_disk(Path(folder) / "disk", 1 << 16):
                return True
        except (subprocess.CalledProcessError, OSError):
            return False


def disturb(folder: Path, kills: int, tally: Tally, seed: int = 0) -> None:
    """All faults; `kills` of those that come at random moments, and as many of the others as that is worth."""
    draw = random.Random(seed)
    _disturb(Cells.make(folder / "run"), "run", folder / "disk", kills, tally, draw)
    _disturb(Merge.make(folder / "merge"), "merge", folder / "disk", kills, tally, draw)


def _disturb(victim: Victim, name: str, disk: Path, kills: int, tally: Tally, draw: random.Random) -> None:
    seconds = undisturbed(victim)

    def attempt(fault: str, outcome: Callable[[], list[str]]) -> None:
        shutil.rmtree(victim.place, ignore_errors=True)
        tally.note(f"{name}: {fault}", outcome())

    def moment() -> float:
        return draw.uniform(0, seconds)

    for _ in range(kills):
        whom = draw.choice(["the main process", "a worker", "all"] if name == "run" else ["all"])
        attempt(f"{whom} killed", lambda whom=whom: killed(victim, moment(), whom))
    for number in (signal.SIGINT, signal.SIGTERM):
        for _ in range(max(kills // 5, 1)):
            attempt(number.name, lambda number=number: stopped(victim, moment(), number))
    for _ in range(max(kills // 10, 1)):
        attempt("stopped and continued", lambda: paused(victim, moment()))
        attempt("three at once", lambda: at_once(victim))
        if isinstance(victim, Merge):
            attempt("a source changes", lambda: changed_source(victim, moment()))
    if isinstance(victim, Cells):
        _damage(victim, draw, kills, attempt)
    if can_mount():
        if isinstance(victim, Cells):  # the paths in the record of a merge depend on its place
            victim.place = disk / victim.place.name
        for _ in range(max(kills // 5, 1)):
            attempt("full disk", lambda: full_disk(victim, draw.randrange(1 << 12, 1 << 20)))
        attempt("read-only place", lambda: read_only(victim))


def _damage(victim: Cells, draw: random.Random, kills: int, attempt: Callable[..., None]) -> None:
    """Files of every kind of cell, each in every way, as far as `kills` goes."""
    files = sorted(victim.expected)
    records = sorted({f"{file.rpartition('/')[0]}/record.json" for file in files})
    ways = [(file, how) for file in files for how in ("removed", "cut", "flipped") if "empty" not in file]
    ways += [(file, "cut") for file in records]
    for file, how in draw.sample(ways, min(max(kills // 4, 1), len(ways))):
        attempt(f"a file {how}", lambda file=file, how=how: damaged(victim, file, how))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of a run, and of a merge")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        try:
            disturb(Path(folder), given.kills, tally, given.seed)
        finally:
            print(tally.table(), flush=True)
    sys.exit(bool(tally.losses))


if __name__ == "__main__":
    main()
