"""The estimate of a run's remaining time, along simulated runs of the demo with the seconds that its cells really took.

`demo_costs.json`: from the records of a run of `grids/demo.toml` with `--jobs 1` on two cores that others used as well.
"""

import heapq
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.store import Address, StoreError

RECORDED = json.loads((Path(__file__).parent / "demo_costs.json").read_text())
DEMO = Path(__file__).parents[2] / "grids" / "demo.toml"
START_SECONDS = 3.0  # of a training, before its first step
STEPS = 8  # at which a training reports its progress
LONG_SECONDS = 60.0
LAST_SHARE = 0.06  # of a run: small cells, whose recorded seconds vary with what else the machine did


class Shelf:
    """A store that holds records alone."""

    def __init__(self) -> None:
        self.records: dict[Address, Any] = {}

    def put(self, cell: Cell, seconds: float) -> None:
        domain = cell.recipe.get("domain")
        summary = {"statistics": RECORDED["statistics"][domain]} if cell.kind == "corpus" else {}
        self.records[cell.address] = SimpleNamespace(seconds=seconds, summary=summary)

    def record(self, address: Address) -> Any:
        if address not in self.records:
            raise StoreError("is not built")
        return self.records[address]


@cache
def _demo() -> list[Cell]:
    return [cell for cell in expand(load_grid(DEMO), lambda _: "0" * 64) if cell.name in RECORDED["seconds"]]


@dataclass
class Simulation:
    """A run of the demo. Every moment of it: how many cells that took a minute have ended, the estimate, the truth.

    slower: how much longer cells take than recorded. steps: whether trainings report their steps.
    """

    jobs: int = 1
    slower: float = 1.0
    steps: bool = False
    now: float = 0.0
    long_ones: int = 0
    shelf: Shelf = field(default_factory=Shelf)
    done: set[Cell] = field(default_factory=set)
    working: set[Cell] = field(default_factory=set)
    to_come: list[tuple[float, int, Cell, int]] = field(default_factory=list)  # time, order, cell, step

    def run(self) -> list[tuple[int, float, float]]:
        cells = _demo()
        pending = dict.fromkeys(cells)
        self.left = TimeLeft(cells, {}, self.shelf, self.jobs)  # type: ignore[arg-type]
        seen = []
        self._begin(pending)
        while self.to_come:
            self.now, _, cell, step = heapq.heappop(self.to_come)
            if step < STEPS:
                self.left.step(cell.name, step, STEPS, self.now)
            else:
                self._end(cell)
                self._begin(pending)
            seen.append((self.now, self.long_ones, self.left.seconds(self.now)))
        assert self.done == set(cells)
        return [(ended, estimated, self.now - at) for at, ended, estimated in seen if estimated is not None]

    def _begin(self, pending: dict[Cell, None]) -> None:
        for cell in list(pending):
            if len(self.working) < self.jobs and all(above in self.done for above in cell.upstream.values()):
                del pending[cell]
                self.working.add(cell)
                self.left.begin(cell.name, self.now)
                took = RECORDED["seconds"][cell.name] * self.slower
                trains = self.steps and cell.kind == "checkpoint" and took > 2 * START_SECONDS
                for step in range(1, STEPS + 1) if trains else (STEPS,):
                    at = self.now + START_SECONDS + (took - START_SECONDS) * step / STEPS if trains else self.now + took
                    heapq.heappush(self.to_come, (at, len(self.done) * 1000 + len(self.to_come), cell, step))

    def _end(self, cell: Cell) -> None:
        self.working.remove(cell)
        self.done.add(cell)
        took = RECORDED["seconds"][cell.name] * self.slower
        self.shelf.put(cell, took)
        self.left.end(cell.name, self.now)
        self.long_ones += took >= LONG_SECONDS


@pytest.mark.parametrize(
    ("jobs", "slower", "steps"), [(1, 1.0, False), (1, 6.0, True), (2, 1.0, True), (2, 6.0, False)]
)
def test_the_estimate_is_near_the_truth_after_few_cells(jobs: int, slower: float, steps: bool) -> None:
    moments = _moments(jobs, slower, steps)
    whole = moments[0][2]
    seen = [(ended, max(left / true, true / left)) for ended, left, true in moments if true > LAST_SHARE * whole]
    after_one = [off for ended, off in seen if ended >= 1]
    after_five = [off for ended, off in seen if ended >= 5]
    assert len(after_five) > 50
    assert max(after_one) < 2.5
    assert max(after_five) < 1.5


def test_at_the_beginning_it_is_no_multiple_of_the_truth() -> None:
    """It was six times the truth; on the machine of the rates, it is about right as soon as a corpus is built."""
    _, left, true = _moments(1, 1.0, False)[0]
    assert max(left / true, true / left) < 1.5


@cache
def _moments(jobs: int, slower: float, steps: bool) -> list[tuple[int, float, float]]:
    return Simulation(jobs, slower, steps).run()


def test_the_estimate_ticks() -> None:
    cells = _corpora(2)
    left = TimeLeft(cells, {}, Shelf(), 1)  # type: ignore[arg-type]
    left.begin("corpus/d0", 100.0)
    whole = left.seconds(100.0)
    assert whole == 2.0  # a second each, by the rates
    assert [left.seconds(100.0 + at) for at in (0.25, 0.5)] == [1.75, 1.5]
    assert left.seconds(200.0) == pytest.approx(1.0 + 0.2 * 100)  # overdue: it is not said to end at once


def test_a_training_is_measured_by_its_pace() -> None:
    cell, *_ = _corpora(1)
    left = TimeLeft([cell], {}, Shelf(), 1)  # type: ignore[arg-type]
    left.begin(cell.name, 0.0)
    assert left.rate(cell.name) is None
    left.step(cell.name, 10, 100, 50.0)  # 40 seconds of them to begin
    left.step(cell.name, 20, 100, 60.0)
    assert left.rate(cell.name) == 1.0
    assert left.seconds(60.0) == 80.0
    assert left.seconds(60.5) == 79.5


def test_a_chain_is_not_divided_by_the_jobs() -> None:
    first, *others = _corpora(4)
    chain = [first, *(Cell("base", (name,), {}, {"above": first}) for name in ("x", "y"))]
    assert TimeLeft(others, {}, Shelf(), 3).seconds(0.0) == pytest.approx(1.0 / 0.85)  # type: ignore[arg-type]
    assert TimeLeft(chain, {}, Shelf(), 3).seconds(0.0) == pytest.approx(3.0 / 0.85)  # type: ignore[arg-type]


def test_cells_that_failed_or_wait_or_are_built_again() -> None:
    cells = _corpora(3)
    left = TimeLeft(cells, {}, Shelf(), 1)  # type: ignore[arg-type]
    left.begin("corpus/d0", 0.0)
    left.put_back("corpus/d0")
    assert left.seconds(0.0) == 3.0
    left.begin("corpus/d0", 0.0)
    left.end("corpus/d0", 4.0)  # it failed: it has no record, and measures nothing
    assert left.seconds(4.0) == 2.0
    left.reopen("corpus/d0")  # it was damaged
    assert left.seconds(4.0) == 3.0


def test_the_cost_without_any_corpus_is_unknown() -> None:
    corpus, *_ = _corpora(1)
    recipe = {"paradigm": "baseline", "domain": "d0", "model": "random", "max_users": None}
    ranked = Cell("evaluation", ("baseline", "d0", "random"), recipe, {"corpus": corpus})
    left = TimeLeft([corpus, ranked], {}, Shelf(), 1)  # type: ignore[arg-type]
    assert left.seconds(0.0) is None


def _corpora(n: int) -> list[Cell]:
    return [Cell("corpus", (f"d{place}",), {"domain": f"d{place}"}) for place in range(n)]
