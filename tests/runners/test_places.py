"""One cell on each GPU, those that need none beside them; the GPUs are names that no driver knows."""

from pathlib import Path

import pytest

from kits.processes import accident
from kits.tiny_grid import cells_of, write_raw_grid
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.machine.cores import available_cores
from mmgrid.runners import default_jobs, places, run_local
from mmgrid.runners.places import Place, places_of
from mmgrid.store import Store

TRAINED = Cell("checkpoint", ("sasrec", "garden", "phase1"), {"paradigm": "sasrec"})
PREPARED = Cell("corpus", ("garden",), {"domain": "garden"})


def test_a_place_for_each_gpu_and_one_beside_them() -> None:
    found = places_of(4, ("0", "1"))
    assert [place.environment for place in found] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
        {"CUDA_VISIBLE_DEVICES": ""},
        {"CUDA_VISIBLE_DEVICES": ""},
    ]
    assert [(place.takes(TRAINED), place.takes(PREPARED)) for place in found] == [(True, False)] * 2 + [
        (False, True)
    ] * 2


def test_fewer_jobs_leave_gpus_idle_and_a_single_one_does_everything() -> None:
    assert [place.gpu for place in places_of(2, ("0", "1", "2"))] == ["0", ""]
    (alone,) = places_of(1, ("5", "6"))
    assert alone.environment == {"CUDA_VISIBLE_DEVICES": "5"}
    assert alone.takes(TRAINED)
    assert alone.takes(PREPARED)


def test_without_gpus_nothing_changes() -> None:
    assert places_of(3, ()) == [Place()] * 3
    assert Place().environment == {}
    assert default_jobs(1) == available_cores()
    assert default_jobs(1, [str(number) for number in range(99)]) == 100


@pytest.mark.usefixtures("fresh_workers")
def test_workers_see_their_gpu_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "computes", lambda cell: cell.kind == "evaluation")
    seen = tmp_path / "seen"
    seen.mkdir()
    code = f"import os, pathlib; pathlib.Path({str(seen)!r}, str(os.getpid())).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    for name, value in accident(tmp_path / "accident", code).items():
        monkeypatch.setenv(name, value)
    file = write_raw_grid(tmp_path)
    cells = with_upstream(cell for cell in cells_of(load_grid(file)) if cell.recipe.get("paradigm") == "baseline")
    outcome = run_local(cells, load_grid(file), Store(tmp_path / "runs"), jobs=3, gpus=("GPU-a", "GPU-b"))
    assert outcome.complete
    assert sorted(one.read_text() for one in seen.iterdir()) == ["", "GPU-a", "GPU-b"]
