"""Cells whose workers are lost are tried again on other machines; what that means for the rest of a run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kits.scripted_crew import Scripted
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.runners import CellEvent, Entries, RunOutcome, run
from mmgrid.runners.crew import Message
from mmgrid.runners.places import Place
from mmgrid.store import Store

A = Cell("corpus", ("a",), {})
BELOW = Cell("corpus", ("below",), {}, {"corpus": A})
OTHER = Cell("corpus", ("other",), {})
HERE, THERE, YONDER = (Place(host=host) for host in ("here", "there", "yonder"))


class Bench:
    def __init__(self, store: Store) -> None:
        self.store, self.events = store, list[CellEvent]()

    def run(self, crew: Scripted, *cells: Cell) -> RunOutcome:
        left = TimeLeft(cells, {}, self.store, len(crew.now))
        return run.run_cells(cells, self.store, crew, left, on_event=self.events.append)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Store(tmp_path / "runs"))


def lost_at(*hosts: str, cell: Cell = A, state: str = "lost") -> Callable[[Cell, str], Message]:
    return lambda one, host: (state, f"{host} is broken") if one == cell and host in hosts else ("built", "")


@pytest.mark.parametrize("state", ["lost", "memory"])
def test_a_cell_is_tried_again_elsewhere(bench: Bench, state: str) -> None:
    crew = Scripted(lost_at("here", "there", state=state), [HERE, THERE, YONDER], attempts=3)
    outcome = bench.run(crew, A, BELOW)
    assert outcome.built == (A.name, BELOW.name)
    assert crew.given[:3] == [(A.name, "here"), (A.name, "there"), (A.name, "yonder")]
    entries = Entries()
    lines = [entry for event in bench.events if (entry := entries.of(event)) and event.cell == A.name]
    assert [(line["event"], line["message"]) for line in lines] == [
        ("started", None),
        ("started", "tried again: on here: here is broken"),
        ("started", "tried again: on there: there is broken"),
        ("done", None),
    ]
    assert bench.store.failures() == []


def test_after_the_last_attempt_it_has_failed_and_all_losses_are_told(bench: Bench) -> None:
    crew = Scripted(lost_at("here", "there"), [HERE, THERE], attempts=3)
    outcome = bench.run(crew, A, BELOW, OTHER)
    assert outcome.built == (OTHER.name,)
    hosts = [host for name, host in crew.given if name == A.name]
    assert len(hosts) == 3
    assert set(hosts) == {"here", "there"}  # no third machine: one has a second try
    told = "; ".join(f"on {host}: {host} is broken" for host in hosts)
    assert outcome.failed == {A.name: f"tried 3 times: {told}"}
    assert outcome.blocked == {BELOW.name: A.name}
    (failure,) = bench.store.failures()
    assert failure.message == outcome.failed[A.name]


def test_one_attempt_is_told_as_it_is(bench: Bench) -> None:
    outcome = bench.run(Scripted(lost_at("here"), [HERE]), A)
    assert outcome.failed == {A.name: "here is broken"}


def test_a_cell_waits_for_no_machine_that_cannot_build_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was lost on the only machine that can: that one has to do."""
    crew = Scripted(lambda cell, host: crew.said.pop() if crew.said else ("built", ""), [THERE, HERE], attempts=2)
    crew.said = [("lost", "killed")]  # type: ignore[attr-defined]
    monkeypatch.setattr(crew, "able", lambda place, cell: place.host == "here")
    assert bench.run(crew, A).complete
    assert crew.given == [(A.name, "here")] * 2


def test_a_machine_that_is_unfit_costs_no_attempt_and_gets_no_more(bench: Bench) -> None:
    def script(cell: Cell, host: str) -> Message:
        if host == "here":
            crew.now.remove(HERE)
            return "unfit", "no store there"
        return "built", ""

    crew = Scripted(script, [HERE, THERE], attempts=1)
    assert bench.run(crew, A, BELOW).complete
    assert crew.given == [(A.name, "here"), (A.name, "there"), (BELOW.name, "there")]
    assert [event.message for event in bench.events if event.state == "lost"] == ["on here: no store there"]


def test_machines_may_come_and_go(bench: Bench) -> None:
    def script(cell: Cell, host: str) -> Message:
        if cell == A:
            crew.now[:] = [YONDER]
        return "built", ""

    crew = Scripted(script, [HERE])
    assert bench.run(crew, A, BELOW).complete
    assert crew.given == [(A.name, "here"), (BELOW.name, "yonder")]
