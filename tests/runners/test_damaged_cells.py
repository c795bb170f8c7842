"""A run builds nothing from damaged files: it sets the damaged cell aside, builds it again, and says so."""

from pathlib import Path

import pytest

from kits.tiny_grid import bytes_below, cells_of, named, write_raw_grid
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import Grid, load_grid
from mmgrid.runners import CellEvent, RunOutcome, run_local
from mmgrid.runners.schedule import Schedule
from mmgrid.store import Store, StoreError

CORPUS, RANKED = "corpus/garden", "evaluation/baseline/garden/popularity"


class Bench:
    """A grid on raw files, of which only one evaluation and its corpus are built."""

    def __init__(self, folder: Path) -> None:
        self.grid: Grid = load_grid(write_raw_grid(folder))
        self.cells = with_upstream([named(cells_of(self.grid), RANKED)])
        self.store = Store(folder / "runs")
        self.events: list[CellEvent] = []

    def run(self) -> RunOutcome:
        self.events = []
        return run_local(self.cells, self.grid, self.store, jobs=1, on_event=self.events.append)

    def folder(self, name: str) -> Path:
        return self.store.folder(named(self.cells, name).address)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    assert bench.run().complete
    return bench


def _same_files(one: Path, other: dict[str, bytes]) -> bool:
    found = bytes_below(one)
    return all(found[name] == content for name, content in other.items() if name != "record.json")


def test_missing_and_resized_files_are_built_again(whole: Bench) -> None:
    before = {name: bytes_below(whole.folder(name)) for name in (CORPUS, RANKED)}
    (whole.folder(CORPUS) / "items.parquet").unlink()
    (whole.folder(RANKED) / "rows.parquet").write_bytes(b"")
    outcome = whole.run()
    assert outcome.complete
    assert set(outcome.built) == outcome.damaged.keys() == {CORPUS, RANKED}
    assert outcome.present == ()
    assert outcome.damaged[CORPUS] == f"{CORPUS} is damaged: {whole.folder(CORPUS) / 'items.parquet'}: is missing"
    assert {event.cell: event.message for event in whole.events if event.state == "damaged"} == outcome.damaged
    assert all(_same_files(whole.folder(name), files) for name, files in before.items())
    aside = whole.store.leftovers()
    assert [path.parent.name for path in aside] == ["garden", "popularity"]
    for path in aside:
        whole.store.discard(path)


@pytest.mark.parametrize("file", ["interactions.parquet", "items.parquet", "months.parquet"])
def test_nothing_is_built_from_a_changed_bit(whole: Bench, file: str) -> None:
    path = whole.folder(CORPUS) / file
    content = bytearray(path.read_bytes())
    sound, ranks = bytes(content), bytes_below(whole.folder(RANKED))
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    assert whole.run().present == (CORPUS, RANKED)  # what is built stays built
    whole.store.remove(named(whole.cells, RANKED).address)
    outcome = whole.run()
    assert outcome.complete
    assert outcome.built == (CORPUS, RANKED)
    assert outcome.damaged == {CORPUS: f"{CORPUS} is damaged: {path}: its content differs from the record"}
    assert path.read_bytes() == sound
    assert _same_files(whole.folder(RANKED), ranks)
    (aside,) = whole.store.leftovers()
    assert (aside / file).read_bytes() == bytes(content)
    whole.store.discard(aside)
    states = [(event.cell, event.state) for event in whole.events if event.state != "present"]
    assert states == [
        (RANKED, "started"),
        (CORPUS, "damaged"),
        (RANKED, "waiting"),
        (CORPUS, "started"),
        (CORPUS, "built"),
        (RANKED, "started"),
        (RANKED, "built"),
    ]


def test_a_schedule_opens_a_cell_once() -> None:
    below = Cell("corpus", ("a",), {})
    above = Cell("evaluation", ("b", "a"), {}, {"corpus": below})
    top = Cell("study", ("c",), {}, {"x": above})
    schedule = Schedule.of([below, above, top])
    for cell in (below, above):
        del schedule.pending[cell]
    schedule.set_present(below)
    assert schedule.reopen(above, below.address, "torn") == below
    assert list(schedule.pending) == [below, above, top]
    assert schedule.next_cell() == below
    assert schedule.reopen(above, below.address, "torn") is None  # another worker has found it, too
    del schedule.pending[below]
    schedule.set_built(below)
    assert schedule.outcome().built == ("corpus/a",)
    assert schedule.outcome().present == ()
    with pytest.raises(StoreError, match="torn, although this run has built it again"):
        schedule.reopen(above, below.address, "torn")


def test_a_failed_cell_blocks_those_that_come_before_what_they_need() -> None:
    below = Cell("corpus", ("a",), {})
    above = Cell("evaluation", ("b", "a"), {}, {"corpus": below})
    top = Cell("study", ("c",), {}, {"x": above})
    schedule = Schedule.of([top, above])
    assert set(schedule.set_failed(below, "no room")) == {above, top}
    assert not schedule.pending
