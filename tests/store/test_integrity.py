"""Damaged files of published cells are found: by a look at each when a cell is asked for, by digests before it is used."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mmgrid.store import Address, DamagedFilesError, Record, Store, integrity

BOOKS = Address("corpus", ("books",), "ab" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    _build(store)
    return store


def _make(work: Path) -> dict[str, Any]:
    (work / "deep").mkdir()
    for name in ("a.bin", "deep/b.bin", "empty"):
        (work / name).write_bytes(b"" if name == "empty" else name.encode())
    return {}


def _build(store: Store) -> Record | None:
    return store.build(BOOKS, {"seed": 0}, {}, _make)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["a.bin", "deep/b.bin", "empty"])
@pytest.mark.parametrize("damage", ["missing", "longer", "a folder"])
def test_a_look_finds_files_that_are_missing_or_have_another_size(store: Store, name: str, damage: str) -> None:
    assert store.has(BOOKS)
    path = store.folder(BOOKS) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "longer":
        path.write_bytes(content + b"x")
    elif damage == "a folder":
        path.mkdir()
    with pytest.raises(DamagedFilesError, match=rf"corpus/books is damaged: {path}: .*`mmgrid run` sets it aside") as e:
        store.has(BOOKS)
    assert e.value.address == BOOKS
    (entry,) = store.damaged()
    assert entry[0] == store.folder(BOOKS)
    assert entry[1].startswith(f"{path}: ")
    assert [address for address, _, _ in store.entries()] == [BOOKS]


def test_a_changed_bit_is_found_before_the_cell_is_used(store: Store) -> None:
    path = store.folder(BOOKS) / "deep/b.bin"
    _flip(path)
    assert store.has(BOOKS)  # a look at the file does not show it
    assert store.sound(BOOKS, "a.bin") == store.folder(BOOKS) / "a.bin"
    for file in (None, "deep/b.bin"):
        with pytest.raises(DamagedFilesError, match=rf"^corpus/books is damaged: {path}: its content differs.*verify"):
            store.sound(BOOKS, file)


def test_each_state_of_a_file_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    digest = integrity.sha256_file
    monkeypatch.setattr(integrity, "sha256_file", lambda path, *rest: read.append(path.name) or digest(path, *rest))
    for _ in range(2):
        assert store.sound(BOOKS) == store.folder(BOOKS)
        store.sound(BOOKS, "a.bin")
    assert read == ["a.bin", "b.bin", "empty"]
    path = store.folder(BOOKS) / "a.bin"
    path.write_bytes(path.read_bytes())
    store.sound(BOOKS)
    assert read[3:] == ["a.bin"]
    times = path.stat().st_mtime_ns
    _flip(path)
    os.utime(path, ns=(times, times))
    with pytest.raises(DamagedFilesError):
        store.sound(BOOKS)


def test_a_file_that_the_disk_cannot_read_is_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, *rest: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(integrity, "sha256_file", broken)
    with pytest.raises(DamagedFilesError, match=r"a\.bin: cannot be read \(Input/output error\), and 2 more;"):
        store.sound(BOOKS)
    assert len(store.verify(BOOKS)) == 3


def test_a_damaged_cell_is_built_again_and_kept_aside(store: Store) -> None:
    folder = store.folder(BOOKS)
    (folder / "a.bin").unlink()
    record = _build(store)
    assert record is not None
    assert store.verify(BOOKS) == []
    (aside,) = store.leftovers()
    assert aside.name.startswith("abababab.damaged-")
    assert (aside / "deep" / "b.bin").read_bytes() == b"deep/b.bin"
    assert [address for address, _, _ in store.entries()] == [BOOKS]
    assert store.damaged() == []
    assert store.discard(aside)
    assert not aside.exists()


def test_only_damaged_cells_are_set_aside(store: Store) -> None:
    folder = store.folder(BOOKS)
    assert store.set_aside(folder) is None
    _flip(folder / "a.bin")
    aside = store.set_aside(folder)
    assert aside is not None
    assert not store.has(BOOKS)
    assert store.set_aside(folder) is None
    _build(store)
    (folder / "record.json").write_bytes(b"{")
    assert store.set_aside(folder) is not None
    assert len(store.leftovers()) == 2


def test_a_folder_that_a_link_adds_is_not_in_the_record(store: Store, tmp_path: Path) -> None:
    (store.folder(BOOKS) / "more").symlink_to(tmp_path)
    assert store.verify(BOOKS) == [f"{store.folder(BOOKS)}/more: is not in the record"]


@pytest.mark.parametrize("what", ["record", "cell"])
@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_link_that_leads_nowhere_is_set_aside(store: Store, what: str, target: str) -> None:
    folder = store.folder(BOOKS)
    path = folder / "record.json" if what == "record" else folder
    path.rename(path.with_name("kept"))
    path.symlink_to(path.name if target == "itself" else "nowhere")
    assert [found for found, _ in store.damaged()] == [folder]
    aside = store.set_aside(folder)
    assert aside in store.leftovers()
    assert _build(store) is not None
    assert store.verify(BOOKS) == []


def test_a_record_whose_seconds_are_no_number_is_damaged(store: Store) -> None:
    path = store.folder(BOOKS) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1e999}))
    ((_, problem),) = store.damaged()
    assert "cannot be read as a record (seconds: Input should be a finite number)" in problem
