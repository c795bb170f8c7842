"""The store of a grid is found from anywhere, by one rule."""

from pathlib import Path

import pytest

from kits.tiny_grid import mmgrid, write_grid
from mmgrid.grid.standing.store_place import store_nearby, store_of_grid
from mmgrid.store import Store


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid file in `project/grids`; the working folder is `elsewhere`."""
    for name in ("project/grids", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return write_grid(tmp_path / "project" / "grids")


def test_a_new_store_is_beside_the_grid_file(file: Path) -> None:
    place = store_of_grid(file)
    assert (place.root, place.note) == (file.parent / "runs", "")
    assert place.looked == [file.parent / "runs", file.parent.parent / "runs", Path.cwd() / "runs"]


@pytest.mark.parametrize("old", ["project/runs", "elsewhere/runs"])
def test_an_older_store_is_used_and_said_until_there_is_one_beside_the_grid(
    old: str, file: Path, tmp_path: Path
) -> None:
    Store(tmp_path / old)
    place = store_of_grid(file)
    assert place.root == tmp_path / old
    assert str(tmp_path / old) in place.note
    Store(file.parent / "runs")
    assert store_of_grid(file).root == file.parent / "runs"
    assert store_of_grid(file, Path("mine")).root == Path("mine")


def test_a_folder_that_is_no_store_is_not_used(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "runs" / "tensorboard").mkdir(parents=True)
    assert store_of_grid(file).root == file.parent / "runs"


def test_commands_and_python_find_the_same_store(file: Path, tmp_path: Path) -> None:
    import mmgrid as face

    Store(tmp_path / "elsewhere" / "runs")
    answer = mmgrid("results", file)
    assert answer.code == 1
    assert answer.err.startswith(
        f"mmgrid: the store is {tmp_path}/elsewhere/runs; there is none beside the grid file ("
    )
    assert (
        f"mmgrid: {tmp_path}/elsewhere/runs: no evaluation of {file} is built in this store. `mmgrid run " in answer.err
    )
    with pytest.raises(FileNotFoundError, match="elsewhere/runs; `mmgrid run"):
        face.cell_folder(file, "corpus/garden")
    assert mmgrid("status", file).out.startswith(f"Store {tmp_path}/elsewhere/runs\n")


def test_without_a_grid_the_store_nearby_is_found(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="no such store, nor is there one in"):
        store_nearby()
    monkeypatch.chdir(file.parent.parent)
    Store(file.parent / "runs")
    assert store_nearby().root == file.parent / "runs"
    (file.parent.parent / "more").mkdir()
    Store(file.parent.parent / "more" / "runs")
    with pytest.raises(FileNotFoundError, match=r"several stores \(grids/runs, more/runs\)"):
        store_nearby()
    Store(file.parent.parent / "runs")
    assert store_nearby().root == file.parent.parent / "runs"
    monkeypatch.chdir(file.parent.parent / "runs")
    assert store_nearby().root == Path.cwd()
    assert mmgrid("status").out.startswith(f"Store {Path.cwd()}\n")
