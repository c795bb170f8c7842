"""What a store holds at a moment: its cells by kind, those in work, and what went wrong."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from mmgrid.cli import draw
from mmgrid.cli.blocked import say_blocked
from mmgrid.grid.cells.stored import EXACT, is_exact
from mmgrid.quantities import duration
from mmgrid.store import Store, StoreError
from mmgrid.store.failure import Failure
from mmgrid.store.lock import holder
from mmgrid.store.places import lock_of, walk


@dataclass(frozen=True)
class Kind:
    """Cells of one kind. bytes: of their files. seconds: that building them took."""

    cells: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Contents:
    """The contents.

    root: of the store. in_work: work folder → who builds there, if it is known. damaged, newer: folder → problem, of
    cells that are damaged, or whose records this version does not know.
    """

    root: str
    kinds: dict[str, Kind]
    in_work: dict[str, str]
    leftovers: list[str]
    damaged: dict[str, str]
    newer: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, store: Store) -> "Contents":
        """Those of a store."""
        count: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        seconds: dict[str, float] = {}
        for address, _, record in store.entries():
            kind = f"{address.kind}, {EXACT}" if is_exact(address.kind, address.key) else address.kind
            with suppress(StoreError, FileNotFoundError):  # it was removed meanwhile
                sizes[kind] += store.size(address, record)
            count[kind] += 1
            seconds[kind] = seconds.get(kind, 0.0) + record.seconds
        in_work = {
            path.relative_to(store.root).as_posix(): str(
                holder(lock_of(path.with_name(path.name.partition(".")[0]))) or ""
            )
            for path in walk(store.root)
            if path.match("*.work")
        }
        damaged, newer = ({str(folder): text for folder, text in found} for found in store.unsound())
        return cls(
            str(store.root),
            {kind: Kind(count[kind], sizes[kind], seconds[kind]) for kind in sorted(count)},
            in_work,
            [str(path) for path in store.leftovers()],
            damaged,
            newer,
            store.failures(),
        )

    def print_json(self, *, in_one_line: bool) -> None:
        """Print it for programs."""
        facts = {
            "store": self.root,
            "kinds": {name: vars(kind) for name, kind in self.kinds.items()},
            "in_work": list(self.in_work),
            "leftovers": self.leftovers,
            "damaged": self.damaged,
            "newer": self.newer,
            "failed": {
                one.name: {"message": one.message, "when": one.when, "blocked": list(one.blocked)}
                for one in self.failures
            },
        }
        (draw.print_json_line if in_one_line else draw.print_json)(facts)

    def show(self) -> None:
        """Print it for people."""
        rows = [
            (name, kind.cells, f"{kind.bytes / 1e6:,.1f} MB", duration(kind.seconds))
            for name, kind in self.kinds.items()
        ]
        draw.print_table(f"Store {self.root}", ("kind", "cells", "size", "time to build"), rows)
        for folder, who in self.in_work.items():
            draw.say(f"in work: {folder}", (f" ({who})" if who else "", "dim"))
        for line in self.leftovers:
            draw.say(f"left over: {line}")
        for problem in self.damaged.values():
            draw.say(("damaged", "red"), f": {problem}")
        for problem in self.newer.values():
            draw.say(("newer", "yellow"), f": {problem}")
        for one in self.failures:
            draw.say(("failed", "red"), f" {one.name}: {one.message} ", (f"({one.when})", "dim"))
            if one.blocked:
                say_blocked(one.name, one.blocked)
