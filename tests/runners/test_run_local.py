"""The runner's guarantees when a cell fails, a process dies or the runner itself is stopped."""

import json
import multiprocessing as mp
import os
import signal
from pathlib import Path

import pytest

from kits.processes import accident, finish, living, start, until
from kits.tiny_grid import BASELINES, bytes_below, cells_of, write_raw_grid
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.runners import CellEvent, EventCallback, RunOutcome, default_jobs, places, run_local
from mmgrid.store import Store

pytestmark = pytest.mark.slow

EVALUATED = {
    domain: {f"evaluation/baseline/{domain}/{model}" for model in ("popularity", "random")}
    for domain in ("garden", "kitchen")
}
ALL = {"corpus/garden", "corpus/kitchen"} | EVALUATED["garden"] | EVALUATED["kitchen"]


class Bench:
    """A grid on raw files with an empty store; only cells that need no training are built."""

    def __init__(self, folder: Path) -> None:
        self.file, self.root = write_raw_grid(folder), folder / "runs"
        self.arguments = (self.file, "--store", self.root, "--only", BASELINES)

    @property
    def store(self) -> Store:
        return Store(self.root)

    @property
    def cells(self) -> list[Cell]:
        return with_upstream(
            cell for cell in cells_of(load_grid(self.file)) if cell.recipe.get("paradigm") == "baseline"
        )

    def run(self, jobs: int = 1, on_event: EventCallback | None = None) -> RunOutcome:
        return run_local(self.cells, load_grid(self.file), self.store, jobs=jobs, on_event=on_event)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def accidents(fresh_workers: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Call it with code to run in the worker processes before they build cells."""

    def plan(code: str) -> None:
        for name, value in accident(tmp_path / "accident", code).items():
            monkeypatch.setenv(name, value)

    return plan


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_cell_blocks_its_dependents_and_no_other_cell(bench: Bench, jobs: int) -> None:
    ratings = bench.file.parent / "raw" / "garden.csv.gz"
    whole = ratings.read_bytes()
    ratings.write_bytes(whole[: len(whole) // 2])
    events: list[CellEvent] = []
    outcome = bench.run(jobs, events.append)
    assert set(outcome.built) == {"corpus/kitchen"} | EVALUATED["kitchen"]
    assert set(outcome.failed) == {"corpus/garden"}
    assert outcome.failed["corpus/garden"].startswith(f"{ratings}: the gzip file is cut off")
    assert outcome.blocked == dict.fromkeys(EVALUATED["garden"], "corpus/garden")
    assert not outcome.complete
    ends = {event.cell: event for event in events if event.state in ("built", "failed", "blocked", "present")}
    assert ends.keys() == ALL
    assert ends["corpus/garden"].message == outcome.failed["corpus/garden"]
    (failure,) = bench.store.failures()
    assert (failure.name, failure.message) == ("corpus/garden", outcome.failed["corpus/garden"])
    assert set(failure.blocked) == EVALUATED["garden"]

    published = bytes_below(bench.root)
    ratings.write_bytes(whole)
    again = bench.run(jobs)
    assert set(again.built) == {"corpus/garden"} | EVALUATED["garden"]
    assert set(again.present) == {"corpus/kitchen"} | EVALUATED["kitchen"]
    assert again.complete
    assert bench.store.failures() == []
    after = bytes_below(bench.root)
    assert {path for path, data in published.items() if after.get(path) != data} <= {
        path
        for path in published
        if ".work/" in path or path.startswith("logs/") or path in ("digests.json", "corpus/garden/failed.json")
    }


@pytest.mark.parametrize(("how", "code"), [("os._exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9)])
def test_a_worker_that_dies_fails_its_cell_only(bench: Bench, accidents, how: str, code: int) -> None:
    accidents(
        f"""
        def dying(cell, *rest):
            if cell.name == "corpus/garden":
                {how}
            return build_cell(cell, *rest)

        worker.build_cell = dying
        """
    )
    outcome = bench.run()
    assert set(outcome.built) == {"corpus/kitchen"} | EVALUATED["kitchen"]
    assert list(outcome.failed) == ["corpus/garden"]
    assert outcome.failed["corpus/garden"].startswith(f"its process ended with code {code} ")
    assert [failure.message for failure in bench.store.failures()] == list(outcome.failed.values())
    assert outcome.blocked == dict.fromkeys(EVALUATED["garden"], "corpus/garden")
    assert not mp.active_children()


def test_a_worker_that_dies_between_two_cells_is_replaced(bench: Bench) -> None:
    def shoot(event: CellEvent) -> None:
        if (event.cell, event.state) == ("corpus/garden", "built"):
            for child in mp.active_children():
                child.kill()
                child.join()

    outcome = bench.run(on_event=shoot)
    assert outcome.complete
    assert set(outcome.built) == ALL


@pytest.mark.parametrize(
    ("error", "line", "has_traceback"),
    [
        ('PlugInError("no titles; check the item file")', "no titles; check the item file", False),
        ('MemoryError("no room\\n  for this cell")', "MemoryError: no room for this cell", True),
    ],
)
def test_an_error_is_reported_in_one_line_and_a_programming_error_with_its_traceback(
    bench: Bench, accidents, capfd: pytest.CaptureFixture[str], error: str, line: str, has_traceback: bool
) -> None:
    accidents(
        f"""
        class PlugInError(ValueError):
            pass

        def failing(cell, *rest):
            raise {error}

        worker.build_cell = failing
        """
    )
    assert bench.run().failed["corpus/garden"].startswith(f"{line} (log: ")
    err = capfd.readouterr().err
    assert ("Traceback" in err and "in failing" in err) == has_traceback


def test_cells_in_the_store_are_not_built_again_and_start_no_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(bench.run().built) == ALL
    monkeypatch.setattr("mmgrid.runners.local.WorkerProcess", None)
    events: list[CellEvent] = []
    outcome = bench.run(on_event=events.append)
    assert outcome == RunOutcome((), tuple(cell.name for cell in bench.cells), {}, {})
    assert {event.state for event in events} == {"present"}


def test_a_damaged_record_fails_its_cell_and_no_other(bench: Bench) -> None:
    bench.run()
    garden, kitchen = (next(cell for cell in bench.cells if cell.name == f"corpus/{d}") for d in ("garden", "kitchen"))
    popularity = next(cell for cell in bench.cells if cell.name == "evaluation/baseline/garden/popularity")
    bench.store.remove(popularity.address)
    bench.store.remove(kitchen.address)
    record = bench.store.folder(garden.address) / "record.json"
    record.write_bytes(record.read_bytes()[:100])
    outcome = bench.run()
    assert outcome.built == ("corpus/kitchen",)
    assert outcome.failed.keys() == {"corpus/garden"}
    assert outcome.failed["corpus/garden"].startswith(f"{record}: cannot be read as a record")
    assert outcome.blocked == {"evaluation/baseline/garden/popularity": "corpus/garden"}
    assert bench.store.failures() == []  # a damaged record is not a failed build
    assert record.stat().st_size == 100


def test_a_failure_that_cannot_be_recorded_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.file.parent / "raw" / "garden.csv.gz").write_bytes(b"")

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmgrid.store.failure.write_json", full)
    outcome = bench.run()
    assert outcome.failed.keys() == {"corpus/garden"}
    assert set(outcome.built) == {"corpus/kitchen"} | EVALUATED["kitchen"]
    assert bench.store.failures() == []


def test_two_runs_on_one_store_build_each_cell_once(bench: Bench, tmp_path: Path) -> None:
    """The first run holds a cell until the second one waits for it."""
    go = tmp_path / "go"
    environment = accident(
        tmp_path / "accident",
        f"""
        build = store.Store.build

        def slow(self, address, recipe, upstream, make):
            def held(folder):
                while address.name == "corpus/garden" and not Path({str(go)!r}).exists():
                    time.sleep(0.005)
                return make(folder)

            return build(self, address, recipe, upstream, held)

        store.Store.build = slow
        """,
    )
    first = start("run", *bench.arguments, "--json", "--jobs", "1", environment=environment)
    until(lambda: list(bench.root.glob("corpus/garden/*.lock")), first)
    waited = []

    def watch(event: CellEvent) -> None:
        if event.state == "waiting":
            waited.append(event.cell)
            go.touch()

    second = bench.run(on_event=watch)
    code, out, err = finish(first)
    assert (code, err) == (0, "")
    assert "corpus/garden" in waited
    built = json.loads(out.splitlines()[-1])["built"]
    assert "corpus/garden" in built
    assert second.complete
    assert sorted([*built, *second.built]) == sorted(ALL)
    assert set(second.present) == ALL - set(second.built)
    assert bench.store.leftovers() == []


HOLDING = """
build = store.Store.build

def slow(self, address, recipe, upstream, make):
    def held(folder):
        (folder / "held").touch()
        while not Path({go!r}).exists():
            time.sleep(0.005)
        (folder / "held").unlink()
        return make(folder)

    return build(self, address, recipe, upstream, held)

store.Store.build = slow
"""


@pytest.mark.parametrize(
    ("number", "word", "code"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143), (signal.SIGHUP, "hung up", 129)],
)
def test_a_run_that_is_stopped_leaves_no_process_behind(
    bench: Bench, tmp_path: Path, number: int, word: str, code: int
) -> None:
    environment = accident(tmp_path / "accident", HOLDING.format(go="/nowhere"))
    run = start("run", *bench.arguments, "--jobs", "2", environment=environment)
    until(lambda: len(list(bench.root.glob("corpus/*/*.work/held"))) == 2, run)
    if number in (signal.SIGINT, signal.SIGHUP):
        os.killpg(run.pid, number)  # what a terminal does on Ctrl-C, or when it is closed
    else:
        run.send_signal(number)  # what a scheduler does
    ended, _, err = finish(run)
    assert ended == code
    assert err == f"{word}; finished cells are kept, and the next run continues from them\n"
    until(lambda: not living(run.pid))  # the last one may still be on its way out


def test_workers_end_with_their_runner_and_the_next_run_goes_on(bench: Bench, tmp_path: Path) -> None:
    run = start("run", *bench.arguments, environment=accident(tmp_path / "accident", HOLDING.format(go="/nowhere")))
    until(lambda: len(list(bench.root.glob("corpus/*/*.work/held"))), run)
    run.kill()
    run.wait()
    until(lambda: not living(run.pid))
    _, err = run.communicate()
    assert "Traceback" not in err
    assert bench.run().complete
    assert bench.store.leftovers() == []


def test_default_jobs_are_the_cores_divided_by_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "available_cores", lambda: 8)
    assert [default_jobs(threads) for threads in (1, 2, 3, 16)] == [8, 4, 2, 1]
