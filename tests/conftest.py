"""What tests of several rooms share: one tiny grid, built once."""

import gc
import multiprocessing as mp
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

gc.disable()  # until all tests are collected: imports make many objects and hardly any garbage
# ruff: noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded; see `kits.hub_server` for tests of the Hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and what they compute is tiny

from kits.once import made_once
from kits.tiny_grid import GRID_FILE, STUDIED, Built, bytes_below, cells_of, write_grid
from mmgrid.grid.file.load import load_grid
from mmgrid.runners import process, run_local
from mmgrid.store import Store

# Workers of grids come from a server that has imported everything once; importing takes longer than most tests compute.
process.START_METHOD = "forkserver"
mp.set_forkserver_preload(["kits.preloaded"])
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).rstrip(":")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked slow come first: of tests side by side, none of them shall begin when all else has ended."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _imported_is_kept() -> None:
    """What modules made when they were imported is never garbage; looking through it takes a second per training."""
    gc.freeze()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The tiny grid with all of its cells, built by two processes side by side. To be looked at only: see `copied`."""

    def make(folder: Path) -> None:
        grid, store = load_grid(write_grid(folder)), Store(folder / "runs")
        outcome = run_local(cells_of(grid), grid, store, jobs=2)
        assert outcome.complete, outcome

    folder = made_once("tiny", make, tmp_path_factory)
    found = Built(folder / GRID_FILE, folder / "runs")
    before = bytes_below(found.root)
    yield found
    changed = {path for path, data in bytes_below(found.root).items() if before.get(path) != data}
    assert not changed - {"digests.json"}, "a test changed the store that all share"


@pytest.fixture(scope="session")
def studied(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The tiny grid with a third domain and all studies, built upon a copy of `built`. To be looked at only."""
    folder = made_once("studied", lambda folder: built.grown(folder, STUDIED), tmp_path_factory)
    return Built(folder / GRID_FILE, folder / "runs")


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Built:
    """A copy of `built` that may be changed."""
    return built.copy(tmp_path)
