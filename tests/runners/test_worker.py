"""What a worker answers: the line for an error, in which plug-ins count like the package, and that it waits for others."""

import errno
import logging
import os
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from mmgrid.files.foreign import in_one_line
from mmgrid.grid.cells.cell import Cell
from mmgrid.runners import worker
from mmgrid.store import Store, StoreError


class PlugInError(ValueError):
    """An error class of a package that is not mmgrid."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StoreError("runs: is not a store"), "runs: is not a store"),
        (PlugInError("items.csv:\n  no item ids"), "items.csv: no item ids"),
        (FileNotFoundError(2, "No such file or directory", "x"), "[Errno 2] No such file or directory: 'x'"),
        (PlugInError(), "PlugInError"),
        (KeyError("weights"), "KeyError: 'weights'"),
        (MemoryError("no room"), "MemoryError: no room"),
        (NotImplementedError("rank"), "NotImplementedError: rank"),
    ],
)
def test_the_type_is_named_where_the_message_alone_explains_nothing(error: Exception, line: str) -> None:
    assert in_one_line(error) == line


def test_a_cell_that_another_process_took_over_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cell, store = Cell("corpus", ("games",), {}), Store(tmp_path / "runs")

    def robbed(cell: Cell, grid: Any, store: Store, progress: Any) -> str:
        def make(folder: Path) -> dict[str, Any]:
            (lock,) = store.folder(cell.address).parent.glob("*.lock")
            lock.unlink()
            return {}

        store.build(cell.address, {}, {}, make)
        return "built"

    monkeypatch.setattr(worker, "build_cell", robbed)
    grid: Any = None
    with caplog.at_level(logging.WARNING):
        assert worker._build(Pipe()[0], cell, grid, store) == ("waiting", "")
    assert "corpus/games failed here: " in caplog.text
    assert "taken over by another process while it was being built here" in caplog.text


def test_a_store_that_has_gone_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, store = Cell("corpus", ("games",), {}), Store(tmp_path / "runs")

    def unmounted(cell: Cell, grid: Any, store: Store, progress: Any) -> str:
        store.root.rename(tmp_path / "elsewhere")
        store.build(cell.address, {}, {}, lambda folder: {})
        return "built"

    monkeypatch.setattr(worker, "build_cell", unmounted)
    grid: Any = None
    state, text = worker._build(Pipe()[0], cell, grid, store)
    assert state == "full"  # no other cell is begun
    assert text.startswith(f"{store.root}: the store is no longer there")


def test_an_error_that_is_none_of_the_lock_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> str:
        raise StoreError("no room")

    monkeypatch.setattr(worker, "build_cell", failing)
    grid: Any = None
    answer = worker._build(Pipe()[0], Cell("corpus", ("games",), {}), grid, Store(tmp_path / "runs"))
    assert answer == ("failed", "no room")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (ImportError("_zstd.so: failed to map segment from shared object"), "memory"),
        (ImportError("No module named 'peft'"), "failed"),
        (OSError(errno.EACCES, "Permission denied"), "failed"),
    ],
)
def test_a_lack_of_memory_is_told_from_a_failure(error: Exception, state: str) -> None:
    assert worker._failed(error) == state


def test_the_memory_of_a_training_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    ours, theirs = Pipe()
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)  # the tests' process keeps its own
    monkeypatch.setattr(worker, "_build", lambda pipe, cell, *_: events.append(cell.name) or ("built", ""))
    monkeypatch.setattr(worker, "release_freed", lambda: events.append("released"))
    for kind in ("corpus", "checkpoint"):
        ours.send(Cell(kind, ("games",), {}))
    ours.send(None)
    grid: Any = None
    worker.run_worker(theirs, grid, Store(tmp_path / "runs").root, dict(os.environ))
    assert events == ["corpus/games", "checkpoint/games", "released"]
