"""Disturbances of a command. Each says what was lost by it, or that the command had ended before it came."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.victims import Merge, Victim
from kits.processes import accident, finish, living, until

Outcome = list[str] | None
"""A line for each loss; None if the command had ended before it could be disturbed."""

_SAID = {signal.SIGINT: "interrupted; ", signal.SIGTERM: "terminated; "}
_HOW_TO_GO_ON = ("the next run continues", "the same command begins again")
_ELSEWHERE = 'import socket\nsocket.gethostname = lambda: "elsewhere"'


def undisturbed(victim: Victim) -> float:
    """Run the command once, remember what it leaves, and remove that; returns the seconds that it took."""
    clock = time.monotonic()
    code, out, err = finish(victim.start())
    assert code == 0, out + err
    seconds = time.monotonic() - clock
    victim.expected = victim.found()
    victim.remove()
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


def killed(victim: Victim, after: float, whom: str) -> Outcome:
    """SIGKILL to the main process, or to all."""
    process = victim.start()
    time.sleep(after)
    if process.poll() is None:
        _signal_group(process, signal.SIGKILL) if whom == "all" else process.kill()
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        return None
    return [*_orphans(process), *losses_of(victim, victim.found())]


def worker_killed(victim: Victim, after: float) -> Outcome:
    """SIGKILL to a process that builds cells: the run says so, and ends by itself."""
    process = victim.start()
    if not _reached(process, after, lambda: _workers(process)) or not _kill_one(_workers(process)):
        finish(process)
        return None
    code, out, err = finish(process)
    said = code == 0 or (code == 1 and "its process ended with code -9" in out + err)  # 0: it was idle
    wrong = [] if said else [f"ended with {code} after a worker was killed: {(out + err)[-300:]}"]
    return [*wrong, *_orphans(process), *losses_of(victim, victim.found())]


def starved(victim: Victim, after: float) -> Outcome:
    """A process that builds cells gets no more memory: the run names the cell that fails, and ends by itself."""
    process = victim.start()
    if not _reached(process, after, lambda: _workers(process)) or not _starve_one(_workers(process)):
        finish(process)
        return None
    code, out, err = finish(process)
    named = any("failed " in line and ("corpus/" in line or "evaluation/" in line) for line in out.splitlines())
    said = code == 0 or (code == 1 and named)  # 0: it was idle, or the cell was tried again
    wrong = [] if said else [f"ended with {code} after a worker had no memory: {(out + err)[-300:]}"]
    return [*wrong, *_orphans(process), *losses_of(victim, victim.found())]


def stopped(victim: Victim, after: float, number: signal.Signals) -> Outcome:
    """SIGINT or SIGTERM: the exit code of the signal, one line that says how to go on, and no process is left."""
    process = victim.start()
    time.sleep(after)
    process.send_signal(number)
    code, _, err = finish(process)
    if code == 0 or (code == -number and victim.found() == victim.expected):  # Python was about to end
        return None
    wrong = _orphans(process)
    last = err.strip().rpartition("\n")[2]
    says = last.startswith(_SAID[number]) and any(words in last for words in _HOW_TO_GO_ON) and "Traceback" not in err
    early = code == -number and not victim.begun()  # before Python has imported the command, it knows no better words
    if not (early or (code == 128 + number and says)):
        wrong.append(f"{number.name} ended with {code}: {err[-300:]!r}")
    return [*wrong, *losses_of(victim, victim.found())]


def paused(victim: Victim, after: float) -> Outcome:
    """SIGSTOP to all processes in the middle of a build, for longer than a lease; another runner; SIGCONT.

    The other runner counts as one on another machine, so it takes over what the first one builds.
    """
    process = victim.start()
    _reached(process, after, victim.building)
    _signal_group(process, signal.SIGSTOP)
    building = victim.building()
    ends = []
    if building:
        victim.lapse()
        with tempfile.TemporaryDirectory() as folder:
            ends.append(finish(victim.start(accident(Path(folder), _ELSEWHERE))))
    _signal_group(process, signal.SIGCONT)
    ends.append(finish(process))
    if not building or not victim.taken_over(ends[0][2]):
        return None
    return [*_unhappy(victim, ends), *_orphans(process), *losses_of(victim, victim.found())]


def at_once(victim: Victim, runners: int = 3) -> Outcome:
    """Several runners of one store: all end well. Of several merges, the others say that one is at work, or is done."""
    ends = [finish(process) for process in [victim.start() for _ in range(runners)]]
    return [*_unhappy(victim, ends), *losses_of(victim, victim.found())]


def full_disk(victim: Victim, room: int) -> Outcome:
    """The place of the output has no more room than `room` bytes, and then enough."""
    with _small_disk(victim.place.parent, room) as resize:
        code, out, err = finish(victim.start())
        wrong = []
        if code != 0 and "no space left" not in out + err:
            wrong.append(f"a full disk is not named: {(out + err)[-300:]}")
        before = victim.found()
        resize(1 << 30)
        return None if code == 0 else [*wrong, *losses_of(victim, before)]


def read_only(victim: Victim) -> Outcome:
    """The place of the output is read-only, and then no more."""
    with _small_disk(victim.place.parent, 1 << 30, extra="ro") as resize:
        code, out, err = finish(victim.start())
        wrong = [] if code == 1 and "read-only" in out + err else [f"ended with {code}: {(out + err)[-300:]}"]
        resize(1 << 30)
        wrong += losses_of(victim, {})
    return wrong


def damaged(victim: Victim, file: str, how: str) -> Outcome:
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
        [sys.executable, "-c", "from mmgrid.cli.main import console; console()", "verify", victim.place, "--repair"],
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [] if check.returncode == 1 else [f"{file} {how}: verify ended with {check.returncode}: {check.stdout}"]
    return [*wrong, *losses_of(victim, {})]


def changed_source(victim: Merge, after: float) -> Outcome:
    """A source is replaced while it is merged: there is the merge of the old one, or none."""
    source = Path(str(victim.arguments[-1]).partition("=")[2].rpartition(":")[0]) / "model.safetensors"
    content = source.read_bytes()
    process = victim.start()
    time.sleep(after)
    meanwhile = process.poll() is None
    source.write_bytes(content[:-4] + b"\0\0\0\0")
    code, out, err = finish(process)
    changed = victim.found()
    source.write_bytes(content)
    wrong = [] if code in (0, 1) else [f"ended with {code}: {(out + err)[-300:]}"]
    if code == 1 and changed:
        wrong.append("there is an output although the merge failed")
    victim.remove()
    return [*wrong, *losses_of(victim, {})] if meanwhile else None


def _unhappy(victim: Victim, ends: list[tuple[int, str, str]]) -> list[str]:
    """Of several runners, those that ended in another way than well."""
    return [
        f"ended with {code} beside another one: {(out + err)[-300:]}"
        for code, out, err in ends
        if code != 0 and not any(words in out + err for words in victim.beside)
    ]


def _reached(process: subprocess.Popen[str], after: float, ready: Callable[[], object]) -> bool:
    """Wait for `after` seconds and until a condition holds; False if the process ends before."""
    clock = time.monotonic()
    while not ready() or time.monotonic() - clock < after:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def _kill_one(pids: list[int]) -> bool:
    """Whether there is one that could be killed."""
    try:
        os.kill(pids[0], signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return False
    return True


def _starve_one(pids: list[int]) -> bool:
    """Whether there is one that could be left without more memory than it has."""
    try:
        pages = int(Path(f"/proc/{pids[0]}/statm").read_text().split()[0])
        _, most = resource.prlimit(pids[0], resource.RLIMIT_AS)
        resource.prlimit(pids[0], resource.RLIMIT_AS, (pages * resource.getpagesize(), most))
    except (IndexError, ProcessLookupError, FileNotFoundError):
        return False
    return True


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that build cells: of those that the runner has started, one only looks after resources."""
    found = []
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        try:
            pids = [int(pid) for pid in children.read_text().split()]
            found += [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        except OSError:  # it has just ended
            continue
    return found


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
