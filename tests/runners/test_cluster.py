"""What a run on a cluster decides by itself, without Ray: who is fit, who has room, who hangs. See tests/cluster."""

import importlib.util
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mmgrid
from kits.processes import until
from kits.tiny_grid import mmgrid as command
from kits.tiny_grid import write_grid
from mmgrid.grid.cells.cell import Cell
from mmgrid.runners.cluster import ClusterError, RayCrew, machines, ray_crew
from mmgrid.runners.cluster.hand import Hand
from mmgrid.runners.cluster.life import SignsOfLife
from mmgrid.runners.cluster.machines import Machine, Machines
from mmgrid.runners.cluster.ray_crew import places_on
from mmgrid.runners.places import Place
from mmgrid.store import Store

CORPUS = Cell("corpus", ("a",), {})
SMALL, LARGE = (Cell("checkpoint", ("semb", "a", size), {"size": size}, {"corpus": CORPUS}) for size in ("1", "30"))


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    more = {"NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1"}
    return {"NodeID": f"id of {name}", "Alive": alive, "Resources": resources, **more}


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "LOOK_SECONDS", 0.002)


def test_machines_come_and_go_and_some_offer_nothing(clock: Clock) -> None:
    nodes = [node("b", CPU=4.0, GPU=1.0, memory=5e9), node("head", CPU=0.0), node("gone", alive=False, CPU=8.0)]
    found = Machines("auto", lambda: list(nodes), clock=clock)
    assert found.now() == [Machine("b (10.0.0.1)", "id of b", 4, 1, 5e9)]
    nodes.append(node("a", CPU=2.0))
    until(lambda: [one.name for one in found.now()] == ["a (10.0.0.1)", "b (10.0.0.1)"])
    nodes[:] = nodes[1:3]
    until(lambda: not found.now())

    def without_any() -> bool:
        clock.now += 0.25  # slowly, so that the head answers meanwhile
        return bool(found.now())

    with pytest.raises(ClusterError, match="no machine of the cluster can build cells: all of them are gone"):
        until(without_any)
    found.close()


def test_a_head_that_is_silent_for_half_a_minute_is_lost(clock: Clock) -> None:
    answers = [[node("a", CPU=1.0)]]
    found = Machines("10.0.0.1:6379", lambda: answers[0], clock=clock)
    answers.clear()  # asking raises from now on
    time.sleep(0.02)
    clock.now += 29
    assert found.now()
    clock.now += 2
    with pytest.raises(
        ClusterError, match="10.0.0.1:6379: the head .* has not answered for 30 s; finished cells are kept"
    ):
        found.now()
    answers.append([node("a", CPU=1.0)])  # a head that was only slow
    until(lambda: not found.lost)
    assert found.now()
    found.close()


def test_an_unfit_machine_gets_nothing_and_without_another_the_run_ends(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    found = Machines("auto", lambda: [node("a", CPU=1.0), node("b", CPU=1.0)], clock=clock)
    first, second = found.now()
    with caplog.at_level(logging.WARNING):
        found.set_unfit(first, "no store")
    assert "a (10.0.0.1): nothing is built there: no store" in caplog.text
    assert found.now() == [second]
    found.set_unfit(second, "another version")
    with pytest.raises(ClusterError, match=r"a \(10.0.0.1\): no store; b \(10.0.0.1\): another version"):
        found.now()
    found.close()


def test_places_of_a_machine_are_those_of_the_local_runner() -> None:
    plain = Machine("a", "1", 5, 0, 1e9)
    assert places_on(plain, 2) == [Place(host="a")] * 2
    assert places_on(plain, 8) == [Place(host="a")]
    gpus = places_on(Machine("g", "2", 2, 2, 1e9), 1)
    assert [(place.gpu, place.host) for place in gpus] == [("0", "g"), ("1", "g"), ("", "g")]


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[RayCrew]:
    """Two machines, of 10 and 40 GB; a cell takes as many GB as it is called."""
    fake = SimpleNamespace(remote=lambda made: made, put=lambda grid: grid)
    monkeypatch.setattr(ray_crew, "imported_ray", lambda: fake)
    monkeypatch.setattr(
        ray_crew,
        "memory_of",
        lambda cell, known: SimpleNamespace(total=1e9 * int(cell.key[2])) if cell != CORPUS else None,
    )
    monkeypatch.setattr(Store, "record", lambda *_: None)
    found = Machines("auto", lambda: [node("a", CPU=1.0, memory=10e9), node("b", CPU=2.0, memory=40e9)], clock=clock)
    grid: Any = SimpleNamespace(spec=SimpleNamespace(threads_per_cell=1))
    yield RayCrew(grid, Store(tmp_path / "runs"), found)
    found.close()


def test_a_cell_goes_where_it_has_room(crew: RayCrew) -> None:
    a, b, same = crew.places()
    assert (a.host, b) == ("a (10.0.0.1)", same)
    huge = Cell("checkpoint", ("semb", "a", "900"), {"size": "900"}, {"corpus": CORPUS})
    assert [crew.able(a, cell) for cell in (CORPUS, SMALL, LARGE, huge)] == [True, True, False, False]
    assert [crew.able(b, cell) for cell in (LARGE, huge)] == [True, True]  # more than all have: alone on the largest
    worker: Any = SimpleNamespace(place=b, memory=30e9)
    crew._workers.append(worker)
    assert [crew.has_room(b, cell, None) for cell in (CORPUS, SMALL, LARGE, huge)] == [True, True, False, False]
    assert crew.has_room(b, LARGE, worker)  # in the place of the idle one
    crew.let_go(worker)
    assert crew.has_room(b, huge, None)


def test_few_jobs_use_all_machines(crew: RayCrew) -> None:
    crew._jobs = 2
    assert {place.host for place in crew.places()} == {"a (10.0.0.1)", "b (10.0.0.1)"}


@pytest.fixture
def hired(crew: RayCrew, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of Ray for each worker; `environment` is that of its process."""
    asked: list[dict[str, Any]] = []

    def options(**resources: Any) -> Any:
        return SimpleNamespace(remote=lambda *given: asked.append(resources | {"environment": given[4]}))

    stay = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    )
    monkeypatch.setattr(ray_crew, "imported_ray", lambda: SimpleNamespace(util=stay))
    monkeypatch.setattr(crew, "_hand", SimpleNamespace(options=options))
    return asked


def test_a_worker_has_the_cores_and_gpus_of_its_place(crew: RayCrew, hired: list[dict[str, Any]]) -> None:
    """A training of several processes takes up what several places have, all on one machine."""
    machine = Machine("g", "node of g", 10, 4, 64e9)
    first, second, *_, last = places_on(machine, 1)
    both = replace(first, more_gpus=("1",), units=(first, second))
    crew._at = {"g": machine}
    for place, cell in ((first, LARGE), (both, replace(LARGE, processes=2)), (last, CORPUS)):
        crew.hire(place, cell, None)
    assert [(one["num_cpus"], one["num_gpus"]) for one in hired] == [(1, 1), (2, 2), (1, 0)]
    assert {one["scheduling_strategy"] for one in hired} == {"node of g"}
    # Ray shows the first two their GPUs.
    assert [one["environment"] for one in hired] == [{}, {}, {"CUDA_VISIBLE_DEVICES": ""}]


def test_a_worker_with_too_little_memory_for_the_next_cell_is_replaced(
    crew: RayCrew, hired: list[dict[str, Any]]
) -> None:
    _, place, _ = crew.places()
    stopped: list[bool] = []
    idle: Any = SimpleNamespace(place=place, memory=1e9, stop=lambda at_once: stopped.append(at_once))
    assert crew.hire(place, SMALL, idle) is idle
    assert (stopped, hired) == ([], [])
    assert crew.hire(place, LARGE, idle) is not idle
    assert (stopped, [one["memory"] for one in hired]) == ([True], [30_000_000_000])


def test_a_worker_that_never_begins_costs_no_attempt_but_its_machine_in_the_end(crew: RayCrew) -> None:
    first, *_ = crew._machines.now()
    worker: Any = SimpleNamespace(machine=first, ready=False)
    assert [crew._judged(worker, ("lost", "no module mmgrid")) for _ in range(2)] == [("unfit", "no module mmgrid")] * 2
    assert first in crew._machines.now()
    for _ in range(3):  # a machine that is gone may come back
        assert crew._judged(worker, ("lost", ray_crew._GONE))[0] == "unfit"
    assert first in crew._machines.now()
    crew._judged(worker, ("lost", "no module mmgrid"))
    assert first not in crew._machines.now()
    worker.ready = True
    assert crew._judged(worker, ("lost", "killed")) == ("lost", "killed")


def test_while_the_head_is_silent_no_cell_counts_as_lost(crew: RayCrew, clock: Clock) -> None:
    """Its machines are gone for the run, all at once; which of them live, nobody knows."""
    found = crew._machines
    fake = SimpleNamespace(wait=lambda refs, **_: (list(refs), []))
    worker: Any = SimpleNamespace(
        task="task", asked=None, ready=True, last_news=list, answer=lambda: ("lost", "its machine is gone")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_crew, "imported_ray", lambda: fake)
        patch.setattr(found, "_ask", lambda: 1 / 0)
        time.sleep(0.02)
        clock.now += 7
        assert list(crew.messages([worker], 0.0)) == []
        patch.undo()
    until(lambda: not found.silent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_crew, "imported_ray", lambda: fake)
        assert list(crew.messages([worker], 0.0)) == [(worker, ("lost", "its machine is gone"))]


def test_a_machine_must_see_the_store_and_have_the_same_version(tmp_path: Path) -> None:
    grid: Any = None
    mark = tmp_path / "mark"
    blind = Hand(grid, tmp_path, mark, mmgrid.__version__, {}, 1.0)
    state, why = blind.build(CORPUS)
    assert (state, why.partition(";")[0]) == ("unfit", f"it does not see the store {tmp_path}")
    assert blind.news(1.0) == ([], True)
    assert blind.news(0.001) == ([], False)
    mark.touch()
    state, why = Hand(grid, tmp_path, mark, "0.0.0", {}, 1.0).build(CORPUS)
    assert (state, why) == (
        "unfit",
        f"it has mmgrid {mmgrid.__version__} instead of 0.0.0; install the same version everywhere",
    )


@pytest.mark.parametrize(("code", "idle"), [("while True: pass", False), ("import time; time.sleep(600)", True)])
def test_a_process_that_only_waits_is_idle(code: str, idle: bool, clock: Clock) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", f"print(flush=True)\n{code}"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        life, began = SignsOfLife(process.pid, clock), time.process_time()
        clock.now = 5.0
        until(lambda: idle or life.idle_seconds() == 0)  # of the busy one, as soon as it had a moment
        assert life.idle_seconds() == (5.0 if idle else 0.0)
        clock.now = 7.0
        life.renew()
        clock.now = 8.0
        assert not idle or life.idle_seconds() == 1.0
        assert time.process_time() - began < 60
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    answer = command("run", write_grid(tmp_path), "--store", tmp_path / "runs", "--ray", "local")
    assert (answer.code, answer.err) == (1, 'mmgrid: --ray: ray is not installed; run: pip install "mmgrid[ray]"\n')
