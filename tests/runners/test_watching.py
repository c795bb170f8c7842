"""What a run leaves to be watched: the logs of its cells, and its events."""

import json
import math
from pathlib import Path

import pytest

from kits.processes import accident, finish, start
from kits.tiny_grid import BASELINES, cells_of, mmgrid, named, write_raw_grid
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.runners import CellEvent, Entries, run_local
from mmgrid.runners.event_file import EventFile
from mmgrid.store import Address, Store
from mmgrid.store.logs import follow_log, log_of, logs_folder, read_log

pytestmark = pytest.mark.slow

FAILING = """
def failing(cell, *rest):
    import warnings
    if cell.name == "corpus/garden":
        print("a print of the plug-in")
        os.write(2, b"a word of a library in C\\n")
        warnings.warn("the titles look \\x1b[2J odd")
        raise ValueError("no titles; check the item file")
    return build_cell(cell, *rest)

worker.build_cell = failing
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_raw_grid(tmp_path)


def _cell(file: Path, name: str) -> Cell:
    return named(cells_of(load_grid(file)), name)


def _log(file: Path, name: str) -> Path:
    return log_of(file.parent / "runs", _cell(file, name).address)


def test_a_failed_cell_names_its_log_which_holds_all_that_happened(file: Path) -> None:
    environment = accident(file.parent / "accident", FAILING)
    code, out, err = finish(start("run", file, "--only", BASELINES, "--jobs", "1", environment=environment))
    assert code == 1
    log = _log(file, "corpus/garden")
    assert f"failed  corpus/garden: no titles; check the item file (log: {log})" in out
    assert "Traceback" not in err
    text = log.read_text()
    assert "a print of the plug-in\n" in text
    assert "a word of a library in C\n" in text
    assert "UserWarning: the titles look \\x1b[2J odd" in text
    assert "the titles look" in err  # a warning is shown, too
    assert "Traceback (most recent call last)" in text
    assert "in failing" in text
    assert "ValueError: no titles" in text

    (failure,) = Store(file.parent / "runs").failures()
    assert failure.message.endswith(f"(log: {log})")
    kitchen = _log(file, "corpus/kitchen").read_text()
    assert kitchen.count("corpus/kitchen") >= 2  # that it began, and that it is built
    assert "Traceback" not in kitchen

    printed = mmgrid("logs", file, "corpus/garden")
    assert (printed.code, printed.out) == (0, text)
    assert mmgrid("logs", file, "corpus/garden", "--follow").out == text  # nobody builds it

    assert mmgrid("run", file, "--only", "corpus/garden", "--jobs", "1").code == 0
    assert log.read_text().startswith(text)  # a second attempt appends
    assert len(log.read_text()) > len(text)


def test_debug_shows_the_traceback_of_any_error_in_a_worker(file: Path) -> None:
    environment = {**accident(file.parent / "accident", FAILING), "MMGRID_DEBUG": "1"}
    _, _, err = finish(start("run", file, "--only", BASELINES, "--jobs", "1", environment=environment))
    assert "Traceback" in err
    assert "in failing" in err


def test_a_crash_leaves_its_traceback_in_the_log(file: Path) -> None:
    crash = FAILING.replace("raise ValueError", "os.abort() #")
    environment = accident(file.parent / "accident", crash)
    _, out, _ = finish(start("run", file, "--only", "corpus/garden", "--jobs", "1", environment=environment))
    log = _log(file, "corpus/garden")
    assert f"(log: {log})" in out
    assert "Fatal Python error: Aborted" in log.read_text()
    assert "its process ended with code" in log.read_text()


def test_the_training_is_in_the_log(built) -> None:
    cell = named(built.cells, "checkpoint/sasrec/garden/phase1")
    text = log_of(built.root, cell.address).read_text()
    assert ", loss " in text
    assert "step 1 of " in text


def test_a_cell_whose_log_cannot_be_written_is_built(file: Path) -> None:
    grid, root = load_grid(file), file.parent / "runs"
    store = Store(root)
    (root / "logs").write_text("in the way")
    corpus = _cell(file, "corpus/garden")
    assert run_local([corpus], grid, store, jobs=1).built == ("corpus/garden",)


def test_no_command_takes_logs_for_cells(file: Path, built) -> None:
    store = Store(file.parent / "runs")
    # As of a tracker: it looks like a version of a cell.
    inner = logs_folder(store.root) / "corpus" / "garden" / "12345678"
    inner.mkdir(parents=True)
    (inner / "record.json").write_text("{}")
    (logs_folder(store.root) / "0123abcd.work").mkdir()
    (logs_folder(store.root) / "failed.json").write_text("{}")
    assert (list(store.entries()), store.damaged(), store.leftovers(), store.failures()) == ([], [], [], [])
    assert mmgrid("status", file, "--json").json["in_work"] == []
    assert mmgrid("verify", file).out.startswith("0 cells")


def test_a_missing_log_is_an_error_that_says_why(built, tmp_path: Path) -> None:
    copy = built.copy(tmp_path)
    cell = named(copy.cells, "corpus/garden")
    log = log_of(copy.root, cell.address)
    log.unlink()
    answer = mmgrid("logs", copy.file, cell.name, "--store", copy.root)
    assert answer.code == 1
    assert f"corpus/garden: has no log in {copy.root}: it was built before" in answer.err
    assert mmgrid("logs", copy.file, cell.name, "--store", copy.root, "--follow").code == 1
    older = log_of(copy.root, Address("corpus", ("garden",), "0" * 64))
    older.write_text("older")
    other = mmgrid("logs", copy.file, cell.name, "--set", "data.min_interactions=6", "--store", copy.root)
    assert "no run has begun to build it; the newest log of another version is " in other.err
    assert str(older) in other.err
    assert "did you mean" in mmgrid("logs", copy.file, "corpus/gardn", "--store", copy.root).err


def test_a_removed_cell_takes_its_log_along(built, tmp_path: Path) -> None:
    copy = built.copy(tmp_path)
    cell = named(copy.cells, "corpus/garden")
    assert log_of(copy.root, cell.address).exists()
    copy.store.remove(cell.address)
    assert not log_of(copy.root, cell.address).exists()


def test_following_misses_nothing_and_ends_with_the_build(tmp_path: Path) -> None:
    log = tmp_path / "cell.log"
    log.write_bytes(b"one\ntw")
    added = [b"o\nthr", b"ee\n", b"four"]

    def wait() -> None:
        with log.open("ab") as stream:
            stream.write(added.pop(0))

    assert list(follow_log(log, lambda: bool(added), wait)) == [b"one\n", b"two\n", b"three\n", b"four"]
    assert b"".join(read_log(log)) == b"one\ntwo\nthree\nfour"


# ---- events

FIELDS = ["time", "cell", "event", "step", "steps", "loss", "rate", "seconds_left", "message"]


def _event_files(root: Path) -> list[Path]:
    return sorted(logs_folder(root).glob("events-*.jsonl"))


def test_a_run_leaves_its_events_and_streams_the_same(file: Path) -> None:
    (file.parent / "raw" / "garden.csv.gz").write_bytes(b"")
    answer = mmgrid("run", file, "--only", BASELINES, "--jobs", "1", "--json")
    assert answer.code == 1
    (events,) = _event_files(file.parent / "runs")
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert answer.lines[:-1] == lines
    assert answer.outcome["failed"].keys() == {"corpus/garden"}
    assert all(list(line) == FIELDS for line in lines)
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    found = [(line["cell"], line["event"]) for line in lines]
    assert ("corpus/kitchen", "started") in found
    assert ("corpus/kitchen", "done") in found
    assert ("corpus/garden", "failed") in found
    assert ("evaluation/baseline/garden/random", "blocked") in found
    (failed,) = (line for line in lines if line["event"] == "failed")
    assert "(log: " in failed["message"]
    assert lines[-1]["seconds_left"] == 0.0

    again = mmgrid("run", file, "--only", "corpus/kitchen", "--json")
    assert again.lines == [{"event": "end", "built": [], "present": ["corpus/kitchen"], "failed": {}, "blocked": {}}]
    assert _event_files(file.parent / "runs") == [events]  # a run that builds nothing leaves none


def test_a_training_reports_its_steps(built) -> None:
    (events,) = _event_files(built.root)
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step" and line["cell"] == "checkpoint/sasrec/garden/pretrain"]
    assert [line["step"] for line in steps] == sorted(line["step"] for line in steps)
    assert all(0 < line["step"] <= line["steps"] for line in steps)
    assert any(line["loss"] is not None for line in steps)
    assert steps[-1]["rate"] > 0
    assert {line["event"] for line in lines} == {"started", "step", "done"}
    assert all(line["seconds_left"] is not None for line in steps)


def test_two_runs_of_one_second_have_two_files_and_every_line_is_whole_at_any_time(tmp_path: Path) -> None:
    files = [EventFile(tmp_path) for _ in range(3)]
    for number, file in enumerate(files):
        file.write(CellEvent("corpus/a", "started"))
        for loss in (math.nan, math.inf, 1.5):
            file.write(CellEvent("corpus/a", "progress", 1.0, "", number + 1, 9, loss, rate=math.inf))
    assert len({file.path for file in files}) == 3
    for number, path in enumerate(_event_files(tmp_path)):  # nothing was closed, as after a kill
        assert number < 3
        lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
        assert [line["loss"] for line in lines] == [None, None, None, 1.5]
        assert lines[-1]["rate"] is None
    for file in files:
        file.close()


def test_what_is_and_what_is_not_an_event() -> None:
    entries = Entries()
    assert entries.of(CellEvent("corpus/a", "present")) is None
    assert entries.of(CellEvent("corpus/a", "damaged", 0.0, "a file is missing")) is None
    started = entries.of(CellEvent("corpus/a", "started"))
    assert started is not None
    assert started["message"] == "built again: a file is missing"
    assert entries.of(CellEvent("corpus/a", "waiting")) is None
    done = entries.of(CellEvent("corpus/a", "present"))
    assert done is not None
    assert (done["event"], done["message"]) == ("done", "built by another process")


def test_an_interrupted_run_leaves_a_readable_file(file: Path) -> None:
    def interrupt(event: CellEvent) -> None:
        if event.state == "built":
            raise KeyboardInterrupt

    store = Store(file.parent / "runs")
    cells = [_cell(file, f"corpus/{domain}") for domain in ("garden", "kitchen")]
    with pytest.raises(KeyboardInterrupt):
        run_local(cells, load_grid(file), store, jobs=1, on_event=interrupt)
    (events,) = _event_files(store.root)
    assert [json.loads(line)["event"] for line in events.read_text().splitlines()] == ["started", "done"]


def test_a_file_of_events_that_cannot_be_written_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("in the way")
    file = EventFile(tmp_path)
    for _ in range(2):
        file.write(CellEvent("corpus/a", "started"))
    assert len(caplog.records) == 1
    assert "the events of this run are not written" in caplog.text


# ---- trackers


def test_a_tracked_cell_is_the_same_and_holds_nothing_of_the_tracker(built, tmp_path: Path) -> None:
    copy = built.copy(tmp_path)
    cell = named(copy.cells, "checkpoint/sasrec/garden/pretrain")
    straight = copy.store.record(cell.address)
    copy.store.remove(cell.address)
    grid = load_grid(copy.file, ['tracking.report_to=["tensorboard"]'])
    outcome = run_local(with_upstream([cell]), grid, copy.store, jobs=1)
    assert outcome.built == (cell.name,)
    assert copy.store.record(cell.address).files == straight.files
    (file,) = copy.root.rglob("*tfevents*")
    assert file.parent == logs_folder(copy.root) / "tensorboard" / cell.address.folder


def test_a_line_of_a_log_without_an_end_comes_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"x" * 3_000_000 + b"\nend")
    pieces = list(read_log(log))
    assert b"".join(pieces) == log.read_bytes()
    assert max(map(len, pieces)) < 1_200_000
