"""Disturbs runs and merges in many ways, and counts what survived: `make faults`.

    PYTHONPATH=tests:src python tests/faults/disturbing.py --kills 100
    PYTHONPATH=tests:src python tests/faults/disturbing.py --kills 20 --only "worker"

After each disturbance the same command is run again, without one. It has survived if that run finishes, and all that is
published then has the bytes of an undisturbed run. What was published before must be there still. Prints a table, as in
docs/RELIABILITY.md, and a line for each loss. A disturbance that comes too late, when the command has ended, is no
attempt, and is tried again.
"""

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults.disturbances import (
    Outcome,
    at_once,
    can_mount,
    changed_source,
    damaged,
    full_disk,
    killed,
    paused,
    read_only,
    starved,
    stopped,
    undisturbed,
    worker_killed,
)
from faults.victims import Cells, Merge, Victim

_TRIES = 20  # for a disturbance that comes too late


@dataclass
class Tally:
    """Fault → how often it was tried, and how often something was lost by it."""

    tried: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def note(self, fault: str, losses: list[str]) -> None:
        """Count one attempt."""
        self.tried[fault] = self.tried.get(fault, 0) + 1
        self.lost[fault] = self.lost.get(fault, 0) + bool(losses)
        print(f"{sum(self.tried.values())} {fault}", file=sys.stderr, flush=True)
        for loss in losses:
            print(f"LOST {fault}: {loss}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """As in docs/RELIABILITY.md."""
        rows = ["| fault | tried | survived | lost |", "|---|---|---|---|"]
        for fault, tried in self.tried.items():
            rows.append(f"| {fault} | {tried} | {tried - self.lost[fault]} | {self.lost[fault]} |")
        return "\n".join(rows)


def disturb(folder: Path, kills: int, tally: Tally, seed: int = 0, only: str = "") -> None:
    """All faults of a run and of a merge.

    kills: of each of the two. Of the other faults there are as many as that is worth.
    only: faults whose name holds this.
    """
    draw = random.Random(seed)
    for name, victim in (("run", Cells.make(folder / "run")), ("merge", Merge.make(folder / "merge"))):
        seconds = undisturbed(victim)
        for fault, times, outcome in _faults(victim, folder / "disk", kills, seconds, draw):
            if only in f"{name}: {fault}":
                for _ in range(times):
                    attempt(victim, f"{name}: {fault}", outcome, tally)


def attempt(victim: Victim, fault: str, outcome: Callable[[], Outcome], tally: Tally) -> None:
    """Disturb the command once, as soon as that succeeds."""
    for _ in range(_TRIES):
        victim.remove()
        losses = outcome()
        if losses is not None:
            tally.note(fault, losses)
            return
    print(f"{fault}: always came too late", file=sys.stderr, flush=True)


def _faults(
    victim: Victim, disk: Path, kills: int, seconds: float, draw: random.Random
) -> Iterator[tuple[str, int, Callable[[], Outcome]]]:
    """Each fault, how often it is tried, and what tries it once."""

    def moment() -> float:
        return draw.uniform(0, seconds)

    if isinstance(victim, Cells):
        yield "the main process killed", _share(kills, 3), lambda: killed(victim, moment(), "the main process")
        yield "a worker out of memory", _share(kills, 10), lambda: starved(victim, moment())
        yield "a worker killed", _share(kills, 3), lambda: worker_killed(victim, moment())
    yield "all killed", _share(kills, 3 if isinstance(victim, Cells) else 1), lambda: killed(victim, moment(), "all")
    yield "SIGINT", _share(kills, 5), lambda: stopped(victim, moment(), signal.SIGINT)
    yield "SIGTERM", _share(kills, 5), lambda: stopped(victim, moment(), signal.SIGTERM)
    yield "stopped, taken over, continued", _share(kills, 10), lambda: paused(victim, moment())
    yield "three at once", _share(kills, 10), lambda: at_once(victim)
    if isinstance(victim, Merge):
        yield "a source changes", _share(kills, 10), lambda: changed_source(victim, moment())
    else:
        for file, how in _damages(victim, draw, _share(kills, 4)):
            yield f"a file {how}", 1, lambda file=file, how=how: damaged(victim, file, how)
        for record in draw.choices(victim.records(), k=_share(kills, 4)):
            yield "a record cut", 1, lambda record=record: damaged(victim, record, "cut")
    if can_mount():
        if isinstance(victim, Cells):  # the paths in the record of a merge depend on its place
            victim.place = disk / victim.place.name
        yield "full disk", _share(kills, 5), lambda: full_disk(victim, draw.randrange(1 << 12, 1 << 20))
        yield "read-only place", 1, lambda: read_only(victim)


def _share(kills: int, part: int) -> int:
    return max(kills // part, 1)


def _damages(victim: Cells, draw: random.Random, most: int) -> list[tuple[str, str]]:
    """Files of every kind of cell, each in every way, as far as `most` goes."""
    files = sorted(victim.expected)
    ways = [(file, how) for file in files for how in ("removed", "cut", "flipped") if "empty" not in file]
    return draw.sample(ways, min(most, len(ways)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of a run, and of a merge")
    parser.add_argument("--only", default="", help="faults whose name holds this, as in the table")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        try:
            disturb(Path(folder), given.kills, tally, given.seed, given.only)
        finally:
            print(tally.table(), flush=True)
    sys.exit(any(tally.lost.values()))


if __name__ == "__main__":
    main()
