"""The same grid gives the same bytes whatever the number of jobs, and grows without rebuilding anything."""

from pathlib import Path

import pytest

from kits.tiny_grid import Built, bytes_below, cells_of, contents
from mmgrid.grid.file.load import load_grid
from mmgrid.runners import run_local
from mmgrid.store import Store

pytestmark = pytest.mark.slow

MODELS = ("checkpoint", "base", "backbone", "merge")


@pytest.mark.usefixtures("fresh_workers")
def test_one_process_builds_the_same_bytes_as_two(built: Built, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    outcome = run_local(built.cells, built.grid, store, jobs=1)
    assert outcome.complete
    assert set(outcome.built) == {cell.name for cell in built.cells}
    assert contents(store.root) == contents(built.root)
    weights = {name for name, files in contents(store.root, *MODELS).items() if "model.safetensors" in files}
    assert len(weights) == sum(cell.kind in MODELS for cell in built.cells)


def test_adding_a_domain_builds_its_cells_and_pairs_only(copied: Built) -> None:
    before = bytes_below(copied.root)
    grid = load_grid(copied.file, ['data.domains=["games", "garden", "kitchen"]'])
    outcome = run_local(cells_of(grid), grid, copied.store)
    models = [("semb", phase) for phase in ("pretrain", "phase1", "phase2")]
    models += [("sasrec", phase) for phase in ("pretrain", "phase1", "phase2", "all")]
    expected = {"corpus/games"}
    expected |= {f"checkpoint/{paradigm}/games/{phase}" for paradigm, phase in models}
    expected |= {f"evaluation/{paradigm}/games/{phase}" for paradigm, phase in models}
    expected |= {f"evaluation/baseline/games/{model}" for model in ("popularity", "random")}
    expected |= {
        f"evaluation/semb/{domain}/linear=games+{other}"
        for other in ("garden", "kitchen")
        for domain in ("games", other)
    }
    assert set(outcome.built) == expected
    assert set(outcome.present) == {cell.name for cell in copied.cells}
    assert outcome.complete
    after = bytes_below(copied.root)
    assert all(after[path] == data for path, data in before.items())
