"""What tests of several rooms share: one tiny grid, built once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded; see `kits.hub_server` for tests of the Hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and what they compute is tiny

from kits.tiny_grid import STUDIED, Built, bytes_below, cells_of, write_grid
from mmgrid.grid.file.load import load_grid
from mmgrid.runners import run_local
from mmgrid.store import Store


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The tiny grid with all of its cells, built by two processes side by side. To be looked at only: see `copied`."""
    folder = tmp_path_factory.mktemp("tiny")
    grid, store = load_grid(write_grid(folder)), Store(folder / "runs")
    outcome = run_local(cells_of(grid), grid, store, jobs=2)
    assert outcome.complete, outcome
    before = bytes_below(store.root)
    yield Built(grid.file, store.root)
    changed = {path for path, data in bytes_below(store.root).items() if before.get(path) != data}
    assert not changed - {"digests.json"}, "a test changed the store that all share"


@pytest.fixture(scope="session")
def studied(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The tiny grid with a third domain and all studies, built upon a copy of `built`. To be looked at only."""
    found = built.copy(tmp_path_factory.mktemp("studied"))
    write_grid(found.file.parent, STUDIED)
    outcome = run_local(found.cells, found.grid, found.store, jobs=2)
    assert outcome.complete, outcome
    return found


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Built:
    """A copy of `built` that may be changed."""
    return built.copy(tmp_path)
