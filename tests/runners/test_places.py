"""One cell on each GPU, those that need none beside them; the GPUs are names that no driver knows."""

from dataclasses import replace
from pathlib import Path

import pytest

from kits.processes import accident
from kits.tiny_grid import cells_of, write_raw_grid
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.machine.cores import available_cores
from mmgrid.runners import default_jobs, places, run_local
from mmgrid.runners.places import Place, places_of, together
from mmgrid.store import Store

TRAINED = Cell("checkpoint", ("sasrec", "garden", "phase1"), {"paradigm": "sasrec"})
SHARED = replace(TRAINED, processes=4)
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


def test_a_training_of_several_processes_sees_as_many_gpus() -> None:
    found = places_of(6, ("0", "1", "2", "3", "4"))
    place = together(SHARED, found[1:], found)
    assert place is not None
    assert place.environment == {"CUDA_VISIBLE_DEVICES": "1,2,3,4"}
    assert list(place.units) == found[1:5]
    assert place.takes(SHARED)
    assert not place.takes(TRAINED)
    assert not any(one.takes(SHARED) for one in found)
    assert together(SHARED, found[2:], found) is None, "they wait until a fourth is free"


def test_gpus_of_no_place_serve_a_training_of_several_processes() -> None:
    found = places_of(2, ("0", "1", "2", "3"))
    place = together(SHARED, found, found)
    assert place is not None
    assert place.environment == {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert place.units == (found[0],)
    assert found[0].environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert together(replace(SHARED, processes=5), found, found) is None


def test_without_gpus_it_takes_cores_as_far_as_there_are_some() -> None:
    for jobs, taken in ((1, 1), (3, 3), (9, 4)):
        place = together(SHARED, places_of(jobs, ()), places_of(jobs, ()))
        assert place == Place(units=(Place(),) * taken)
    assert together(SHARED, places_of(2, ()), places_of(3, ())) is None


def test_it_stays_on_one_machine() -> None:
    found = [replace(place, host=host) for host in ("a", "b") for place in places_of(4, ("0", "1", "2"))]
    assert together(SHARED, found, found) is None
    place = together(replace(SHARED, processes=3), found[1:], found)
    assert place is not None
    assert place.host == "b"


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
