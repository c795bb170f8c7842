"""A failure is recorded until the cell is built, and recording it never gets in the way."""

from pathlib import Path
from typing import Any

import pytest

from mmgrid.files import folder as folder_module
from mmgrid.store import Address, Store

BOOKS = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)
LATER = Address("checkpoint", ("semb", "books", "phase2"), "ab" * 32)
RANKED = Address("evaluation", ("semb", "books", "phase1"), "cd" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def _build(store: Store, address: Address = BOOKS) -> None:
    def make(work: Path) -> dict[str, Any]:
        (work / "a.bin").write_bytes(b"a")
        return {}

    assert store.build(address, {}, {}, make) is not None


def test_a_failure_is_kept_with_its_first_line_and_what_it_blocks(store: Store) -> None:
    assert store.failure(BOOKS) is None
    assert store.failures() == []
    store.note_failure(BOOKS, "the loss is nan\nat step 7", [LATER, RANKED])
    found = store.failure(BOOKS)
    assert found is not None
    assert (found.address, found.message) == (BOOKS, "the loss is nan")
    assert found.blocked == {LATER.name: LATER.fingerprint, RANKED.name: RANKED.fingerprint}
    assert store.failures() == [found]
    assert store.failure(LATER) is None
    assert not store.has(BOOKS)
    assert (list(store.entries()), store.leftovers(), store.damaged()) == ([], [], [])


def test_a_failure_is_removed_when_the_cell_is_built(store: Store) -> None:
    store.note_failure(BOOKS, "no room", [LATER])
    _build(store)
    assert store.failure(BOOKS) is None
    assert [path.name for path in store.folder(BOOKS).parent.iterdir()] == ["3fa9c1d2"]


def test_a_cell_that_another_process_built_meanwhile_has_not_failed(store: Store) -> None:
    _build(store)
    store.note_failure(BOOKS, "its process ended")
    assert store.failure(BOOKS) is None
    assert store.failures() == []


def test_a_cell_that_is_built_by_now_is_not_blocked(store: Store) -> None:
    store.note_failure(BOOKS, "no room", [LATER, RANKED])
    _build(store, RANKED)
    assert [list(failure.blocked) for failure in store.failures()] == [[LATER.name]]


def test_the_newest_attempt_at_a_name_counts(store: Store) -> None:
    other = Address(BOOKS.kind, BOOKS.key, "77" * 32)
    store.note_failure(BOOKS, "too fast")
    store.note_failure(other, "too slow")
    assert store.failure(BOOKS) is None
    assert [failure.message for failure in store.failures()] == ["too slow"]
    _build(store)
    assert store.failures() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "x/../y", "fingerprint": "1"}'])
def test_an_unreadable_file_counts_as_no_failure(store: Store, text: str) -> None:
    store.note_failure(BOOKS, "no room", [LATER])
    (store.folder(BOOKS).parent / "failed.json").write_text(text)
    assert store.failure(BOOKS) is None
    assert store.failures() == []
    _build(store)


def test_a_moved_file_counts_as_no_failure(store: Store) -> None:
    store.note_failure(BOOKS, "no room")
    store.folder(LATER).parent.mkdir(parents=True)
    (store.folder(BOOKS).parent / "failed.json").rename(store.folder(LATER).parent / "failed.json")
    assert store.failure(LATER) is None
    assert store.failures() == []


def test_recording_in_a_full_store_raises_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module.os, "fsync", full)
    store.note_failure(BOOKS, "no room")
    monkeypatch.undo()
    assert store.failures() == []
    assert store.leftovers() == []


def test_a_failure_can_be_forgotten(store: Store) -> None:
    store.forget_failure(BOOKS)
    store.note_failure(BOOKS, "no room")
    store.forget_failure(BOOKS)
    assert store.failures() == []
