"""The store's guarantees: a cell is complete or absent, and its record describes it."""

import errno
import json
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from mmgrid.files import DiskFull, work_folder
from mmgrid.grid.standing.consistency import foreign_files
from mmgrid.store import (
    STEP_FOLDER,
    Address,
    CollisionError,
    DamagedRecordError,
    LockLostError,
    Record,
    Store,
    StoreError,
    StoreGoneError,
)

FINGERPRINT = "3fa9c1d2" + "0" * 56
BOOKS = Address("checkpoint", ("semb", "books", "phase1"), FINGERPRINT)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def _make(work: Path) -> dict[str, Any]:
    (work / "deep").mkdir()
    (work / "deep" / "b.bin").write_bytes(b"bb")
    (work / "a.bin").write_bytes(b"a")
    return {"loss": [1.5, 1.25], "steps": 2}


def _build(store: Store, address: Address = BOOKS, make: Any = _make, **recipe: Any) -> Record:
    record = store.build(address, recipe or {"seed": 0}, {"base": {"name": "backbone", "fingerprint": "ab" * 32}}, make)
    assert record is not None
    return record


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _unexpected(work: Path) -> dict[str, Any]:
    raise AssertionError("built although it was there")


# ---- building and reading


def test_a_built_cell_has_its_files_and_record(store: Store) -> None:
    assert not store.has(BOOKS)
    assert store.find(BOOKS) is None
    record = _build(store)
    folder = store.root / "checkpoint" / "semb" / "books" / "phase1" / "3fa9c1d2"
    assert store.has(BOOKS)
    assert store.folder(BOOKS) == folder
    assert _names(folder) == ["a.bin", "deep", "record.json"]
    assert _names(folder.parent) == ["3fa9c1d2"]
    assert store.record(BOOKS) == store.find(BOOKS) == record
    assert record.address == BOOKS
    assert list(record.files) == ["a.bin", "deep/b.bin"]
    assert record.files["deep/b.bin"].bytes == 2
    assert record.summary == {"loss": [1.5, 1.25], "steps": 2}
    assert record.upstream["base"].name == "backbone"
    assert {"python", "mmgrid", "torch"} <= record.versions.keys()
    assert record.peak_bytes > 1 << 20
    assert record.started <= record.finished
    assert record.finished.endswith("Z")
    assert store.size(BOOKS) == store.size(BOOKS, record) == 3 + (folder / "record.json").stat().st_size


def test_a_cell_is_built_only_once(store: Store) -> None:
    record = _build(store)
    assert _build(store, make=_unexpected) == record
    assert _build(Store(store.root), make=_unexpected) == record


def test_peak_memory_is_that_of_the_cell(store: Store) -> None:
    def hungry(work: Path) -> dict[str, Any]:
        with mmap.mmap(-1, 100 << 20) as pages:  # malloc may have as much from before, which is no new memory
            for place in range(0, len(pages), mmap.PAGESIZE):
                pages[place] = 1
        return {}

    much = _build(store, Address("corpus", ("a",), "a" * 64), hungry)
    little = _build(store, Address("corpus", ("b",), "b" * 64))
    assert much.peak_bytes > little.peak_bytes + (50 << 20)


def test_an_address_may_have_no_key(store: Store) -> None:
    address = Address("backbone", (), "f" * 64)
    _build(store, address)
    assert address.folder == "backbone/ffffffff"
    assert [found for found, _, _ in store.entries()] == [address]


@pytest.mark.parametrize(
    "wrong", [("check/point", ()), ("a", ("..",)), ("a", ("b c",)), ("a", ("b",), "xyz"), ("a", ("b",), "ABCDEF01")]
)
def test_an_address_is_safe_in_a_path(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):
        Address(*wrong) if len(wrong) == 3 else Address(*wrong, FINGERPRINT)


def test_entries_and_versions(store: Store) -> None:
    second = Address(BOOKS.kind, BOOKS.key, "b" * 64)
    nested = Address("checkpoint", ("semb", "books"), "c" * 64)
    for address in (BOOKS, second, nested):
        _build(store, address, of=address.fingerprint)
    assert {address for address, _, _ in store.entries()} == {BOOKS, second, nested}
    assert [record.recipe["of"] for record in store.versions_of(BOOKS.name)] == [second.fingerprint, FINGERPRINT]
    assert store.versions_of("checkpoint/semb/toys") == []


# ---- failing


def test_a_failed_make_publishes_nothing_and_keeps_its_steps(store: Store) -> None:
    def failing(work: Path) -> dict[str, Any]:
        (work / STEP_FOLDER).mkdir()
        (work / STEP_FOLDER / "state").write_text("step 10")
        (work / "half.bin").write_bytes(b"half")
        raise RuntimeError("the training diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        _build(store, make=failing)
    assert not store.has(BOOKS)
    assert list(store.entries()) == []

    def resuming(work: Path) -> dict[str, Any]:
        assert _names(work) == ["building.json", STEP_FOLDER]
        assert (work / STEP_FOLDER / "state").read_text() == "step 10"
        return _make(work)

    record = _build(store, make=resuming)
    assert list(record.files) == ["a.bin", "deep/b.bin"]
    assert store.verify(BOOKS) == []


def test_a_work_folder_of_another_fingerprint_is_cleared(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        _build(store, make=lambda work: (work / STEP_FOLDER).mkdir() or 1 / 0)
    twin = Address(BOOKS.kind, BOOKS.key, FINGERPRINT[:8] + "f" * 56)
    assert work_folder(store.folder(twin)).exists()

    def fresh(work: Path) -> dict[str, Any]:
        assert _names(work) == ["building.json"]
        return {}

    _build(store, twin, fresh)


@pytest.mark.parametrize("summary", [{"loss": float("nan")}, {"loss": object()}])
def test_facts_that_are_not_json_are_refused(store: Store, summary: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="plain JSON"):
        _build(store, make=lambda work: summary)
    assert not store.has(BOOKS)
    assert _build(store).files


def test_a_cell_must_not_write_the_stores_own_files(store: Store) -> None:
    with pytest.raises(StoreError, match="belong to the store"):
        _build(store, make=lambda work: {"n": (work / "record.json").write_text("{}")})


def test_a_process_that_lost_the_lock_publishes_nothing(store: Store) -> None:
    lock = store.folder(BOOKS).with_name("3fa9c1d2.lock")
    with pytest.raises(LockLostError, match="nothing was published"):
        _build(store, make=lambda work: lock.unlink() or {})
    assert not store.has(BOOKS)


def test_a_cell_that_another_process_builds_is_not_built(store: Store) -> None:
    def inner(work: Path) -> dict[str, Any]:
        assert store.build(BOOKS, {}, {}, _unexpected) is None
        return {}

    _build(store, make=inner)


def test_a_full_disk_while_the_cell_is_made(store: Store) -> None:
    _build(store, Address("corpus", ("toys",), "a" * 64))

    def full(work: Path) -> dict[str, Any]:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(DiskFull, match="mmgrid gc"):
        _build(store, make=full)
    assert [address.name for address, _, _ in store.entries()] == ["corpus/toys"]


def test_a_full_disk_while_publishing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("mmgrid.files.folder.os.fsync", full)
        with pytest.raises(DiskFull):
            _build(store)
    assert not store.has(BOOKS)
    assert _build(store).files
    assert store.leftovers() == []


# ---- damage from outside


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="is a file"):
        Store(tmp_path / "thesis.tex")
    assert _names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("mark", "says"), [('{"format": 2}', "has format 2"), ("{}", "format file"), ("[", "format file")]
)
def test_an_incompatible_store_is_refused(store: Store, mark: str, says: str) -> None:
    (store.root / "store.json").write_text(mark)
    with pytest.raises(StoreError, match=says) as caught:
        Store(store.root)
    assert "--store" in str(caught.value)
    assert (store.root / "store.json").read_text() == mark


def test_a_damaged_record_is_reported_and_affects_no_other_cell(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    other = Address("corpus", ("toys",), "a" * 64)
    for address in (BOOKS, other):
        _build(store, address)
    path = store.folder(BOOKS) / "record.json"
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"[]", whole.replace(b'"seconds"', b'"secnods"')):
        path.write_bytes(broken)
        for ask in (store.has, store.record, store.verify):
            with pytest.raises(DamagedRecordError, match="built again"):
                ask(BOOKS)
        with pytest.raises(DamagedRecordError):
            _build(store, make=_unexpected)
        assert [address for address, _, _ in store.entries()] == [other]
        assert [folder for folder, _ in store.damaged()] == [store.folder(BOOKS)]
    assert str(path) in caplog.text


def test_a_folder_that_was_moved_is_reported(store: Store) -> None:
    _build(store)
    toys = Address("checkpoint", ("semb", "toys", "phase1"), FINGERPRINT)
    store.folder(toys).parent.mkdir(parents=True)
    store.folder(BOOKS).rename(store.folder(toys))
    with pytest.raises(DamagedRecordError, match="moved"):
        store.has(toys)
    assert [(folder, "moved" in problem) for folder, problem in store.damaged()] == [(store.folder(toys), True)]
    store.folder(toys).rename(store.folder(toys).with_name("00000000"))
    assert "moved" in store.damaged()[0][1]


def test_fingerprints_that_share_their_first_digits(store: Store) -> None:
    _build(store)
    twin = Address(BOOKS.kind, BOOKS.key, FINGERPRINT[:8] + "f" * 56)
    with pytest.raises(CollisionError, match="first 8 digits"):
        store.has(twin)


def test_a_folder_without_a_record_does_not_exist(store: Store) -> None:
    store.folder(BOOKS).mkdir(parents=True)
    (store.folder(BOOKS) / "a.bin").write_bytes(b"half a copy")
    assert not store.has(BOOKS)
    assert list(store.entries()) == []
    with pytest.raises(StoreError, match="not in the store"):
        store.record(BOOKS)
    _build(store)
    assert store.verify(BOOKS) == []


def test_verify_lists_differences(store: Store) -> None:
    _build(store)
    folder = store.folder(BOOKS)
    assert store.verify(BOOKS) == []
    (folder / "a.bin").write_bytes(b"x")
    (folder / "deep" / "b.bin").unlink()
    (folder / "new").write_bytes(b"")
    problems = store.verify(BOOKS)
    assert [(line.split(":")[0], line.split(": ")[1]) for line in problems] == [
        (str(folder / "a.bin"), "its content differs from the record"),
        (str(folder / "deep/b.bin"), "is missing"),
        (str(folder / "new"), "is not in the record"),
    ]
    (folder / "a.bin").write_bytes(b"longer")
    assert "has 6 bytes instead of the recorded 1" in store.verify(BOOKS)[0]


def test_remove(store: Store) -> None:
    _build(store)
    store.remove(BOOKS)
    store.remove(BOOKS)
    assert not store.has(BOOKS)
    assert store.leftovers() == []


def test_leftovers_are_files_that_no_living_process_uses(store: Store) -> None:
    work, lock = work_folder(store.folder(BOOKS)), store.folder(BOOKS).with_name("3fa9c1d2.lock")

    def looking(work: Path) -> dict[str, Any]:
        assert store.leftovers() == []
        assert store.discard(work) is False
        raise RuntimeError

    with pytest.raises(RuntimeError):
        _build(store, make=looking)
    dead = {"host": "elsewhere", "machine": "", "pid": 1, "start": "1", "token": "t"}
    lock.write_text(json.dumps(dead))
    assert store.leftovers() == []  # held on another machine, recently touched
    os.utime(lock, (1, 1))
    gone = store.folder(BOOKS).with_name("3fa9c1d2.gone-01234567")
    gone.mkdir()
    assert store.leftovers() == [gone, lock, work]
    _build(store, Address("corpus", ("toys",), "a" * 64))
    for leftover in store.leftovers():
        assert store.discard(leftover)
    assert store.leftovers() == []
    assert [address.name for address, _, _ in store.entries()] == ["corpus/toys"]


def test_only_leftovers_are_discarded(store: Store, tmp_path: Path) -> None:
    _build(store)
    (tmp_path / "abcdef01.work").mkdir()
    for path in (store.folder(BOOKS), store.root / "store.json", tmp_path / "abcdef01.work"):
        with pytest.raises(StoreError, match="not a leftover"):
            store.discard(path)
    assert store.has(BOOKS)


def test_a_store_in_a_store_keeps_its_cells(store: Store) -> None:
    inner = Store(store.root / "corpus" / "inner")
    address = Address("corpus", ("x",), "ab" * 32)
    assert inner.build(address, {}, {}, lambda work: {}) is not None
    (inner.root / "corpus" / "x" / "cdcdcdcd").mkdir()  # a leftover there
    assert store.damaged() == []
    assert store.leftovers() == []
    assert foreign_files(store) == [inner.root]
    assert inner.has(address)


def test_a_record_of_a_newer_version_is_told_apart(store: Store) -> None:
    address = Address("corpus", ("x",), "ab" * 32)
    assert store.build(address, {}, {}, lambda work: {}) is not None
    file = store.folder(address) / "record.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"later": 1}))
    with pytest.raises(
        DamagedRecordError, match="holds later, which this version of mmgrid does not know; a newer one"
    ):
        store.has(address)


def test_a_store_that_was_moved_is_not_begun_anew_in_its_old_place(store: Store) -> None:
    """So it looks, too, where a shared folder is unmounted: what is written then fills the disk below."""
    away = store.root.with_name("elsewhere")

    def moved(work: Path) -> dict[str, Any]:
        store.root.rename(away)
        return _make(work)

    for make in (moved, _make):
        with pytest.raises(StoreGoneError, match="the store is no longer there"):
            _build(store, make=make)
        store.note_failure(BOOKS, "it has gone")
        assert not store.root.exists()
    assert not list(Store(away).entries())
