"""Cells travel to a remote store and back: whole, once, and as they were, whatever cuts in."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from mmgrid.files import work_folder
from mmgrid.store import Address, DamagedRecordError, Record, Store
from mmgrid.store.remote import Moved, Place, RemoteError, Verified, place, pull, push, verify
from mmgrid.store.remote.layout import files_folder

URL = "memory://lab/demo"
BOOKS = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)
CORPUS = Address("corpus", ("books",), "aa" * 32)
RECORD = f"/lab/demo/{BOOKS.folder}/record.json"


def _build(store: Store, address: Address, weights: bytes = b"w" * 1000) -> Record:
    def make(work: Path) -> dict[str, Any]:
        (work / "deep").mkdir()
        (work / "deep" / "empty").touch()
        (work / "model.bin").write_bytes(weights)
        (work / "config.json").write_text("{}")
        return {}

    record = store.build(address, {"seed": 0}, {}, make)
    assert record is not None
    return record


@pytest.fixture(autouse=True)
def _empty_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("mmgrid.store.remote.pulling.BLOCK_BYTES", 300)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    _build(store, BOOKS)
    _build(store, CORPUS)
    return store


def _push(store: Store, url: str = URL, **options: Any) -> Moved:
    return push(store, Place(url), [address for address, _, _ in store.entries()], **options)


def _pull(store: Store, url: str = URL, **options: Any) -> Moved:
    return pull(store, Place(url), lambda name: True, **options)


def _verify(url: str = URL, **options: Any) -> Verified:
    return verify(Place(url), lambda name: True, **options)


def _bytes(store: Store) -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes() for path in store.root.rglob("*") if path.is_file()
    }


def _remote() -> dict[str, bytes]:
    return {path: bytes(file.getbuffer()) for path, file in MemoryFileSystem.store.items()}


def _write(path: str, data: bytes) -> None:
    MemoryFileSystem().pipe_file(path, data)


def _weights(record: Record) -> str:
    return f"/lab/demo/{files_folder(record)}/model.bin"


# ---- there and back


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_comes_back_byte_for_byte(store: Store, tmp_path: Path, kind: str) -> None:
    url = URL if kind == "memory" else f"file://{tmp_path}/remote/deep"
    seen: list[tuple[int, int]] = []
    sent = _push(store, url, progress=lambda done, total: seen.append((done, total)))
    assert sent == Moved(done=[BOOKS.name, CORPUS.name], bytes=2004)
    assert seen[-1] == (4008, 4008)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert _push(store, url) == Moved(present=[BOOKS.name, CORPUS.name])
    again = Store(tmp_path / "again")
    assert _pull(again, url) == Moved(done=[BOOKS.name, CORPUS.name], bytes=2004)
    assert _bytes(again) == _bytes(store)
    assert again.verify(BOOKS) == []
    assert _pull(again, url).present == [BOOKS.name, CORPUS.name]
    found = _verify(url, deep=True)
    assert (found.cells, found.bytes) == ([BOOKS.name, CORPUS.name], 2004)
    assert (found.damaged, found.unfinished, found.foreign) == ({}, [], [])


def test_only_what_is_asked_for_is_fetched(store: Store, tmp_path: Path) -> None:
    _push(store)
    again = Store(tmp_path / "again")
    assert pull(again, Place(URL), lambda name: name.startswith("corpus/")).done == [CORPUS.name]
    assert pull(again, Place(URL), lambda name: True, cells=[BOOKS]).done == [BOOKS.name]
    assert verify(Place(URL), lambda name: name == CORPUS.name).cells == [CORPUS.name]


def test_a_damaged_cell_here_is_not_sent_and_is_fetched_anew(store: Store) -> None:
    _push(store)
    path = store.folder(BOOKS) / "model.bin"
    path.write_bytes(b"short")
    assert _pull(store).done == [BOOKS.name]
    assert path.read_bytes() == b"w" * 1000
    other = Address("checkpoint", ("semb", "books", "phase2"), "bb" * 32)
    _build(store, other)
    (store.folder(other) / "model.bin").write_bytes(b"v" * 1000)
    moved = _push(store)
    assert list(moved.problems) == [other.folder]
    assert "its content differs from the record" in moved.problems[other.folder]
    assert other.name not in _verify().cells


# ---- interruptions


def _cut(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, after: int) -> Callable[[], int]:
    """After so many calls, a method raises; returns the number of calls so far."""
    plain, calls = getattr(kind, method), []

    def cut(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) > after:
            raise ConnectionError("the line was cut")
        return plain(self, *arguments, **options)

    monkeypatch.setattr(kind, method, cut)
    return lambda: len(calls)


@pytest.mark.parametrize("after", range(5))
def test_a_push_that_was_cut_is_no_cell_and_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    store.remove(CORPUS)
    with monkeypatch.context() as patch:
        _cut(patch, MemoryFileSystem, "open", after)  # writes of files, records and the format
        with pytest.raises(RemoteError, match="run the same command again"):
            _push(store)
    found = _verify() if _remote() else Verified([], 0, {}, [], [])
    assert found.damaged == {}
    before = len(_remote())
    moved = _push(store)
    assert moved.done + moved.present == [BOOKS.name]
    assert len(_remote()) >= before
    assert _verify(deep=True) == Verified([BOOKS.name], 1002, {}, [], [])


def test_what_a_cut_push_has_sent_is_not_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = store.record(BOOKS)
    _write("/lab/demo/remote.json", b'{"format": 1}')
    _write(_weights(record), b"w" * 1000)
    _write(f"/lab/demo/{files_folder(record)}/config.json", b"{]")  # half of another upload
    found = _verify()
    assert (found.cells, found.unfinished, found.damaged) == ([], [BOOKS.folder], {})
    assert _pull(Store(store.root.parent / "again")) == Moved()
    sent: list[str] = []
    plain = MemoryFileSystem.put_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "put_file",
        lambda self, file, path, **more: sent.append(path) or plain(self, file, path, **more),
    )
    push(store, Place(URL), [BOOKS])
    assert sorted(path.rpartition("/")[2].rsplit(".", 2)[0] for path in sent) == [".config.json", ".empty"]


@pytest.mark.parametrize("after", range(9))
def test_a_pull_that_was_cut_publishes_nothing_and_goes_on_within_a_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    _push(store)
    again = Store(tmp_path / "again")
    wanted = {"cells": [BOOKS]}
    with monkeypatch.context() as patch:
        _cut(patch, MemoryFileSystem, "cat_file", after)
        if after < 7:  # format, record, config.json, four blocks of model.bin
            with pytest.raises(RemoteError, match="run the same command again"):
                _pull(again, **wanted)
            assert not again.has(BOOKS)
        else:
            assert _pull(again, **wanted).done == [BOOKS.name]
    with monkeypatch.context() as patch:
        calls = _cut(patch, MemoryFileSystem, "cat_file", 100)
        _pull(again, **wanted)
        fetched_before = max(0, min(after, 7) - 2)
        assert calls() == (1 if after >= 7 else 7 - fetched_before)
    assert again.verify(BOOKS) == []
    assert again.leftovers() == []


def test_a_wrong_beginning_of_a_file_is_fetched_again(store: Store, tmp_path: Path) -> None:
    _push(store)
    again = Store(tmp_path / "again")
    received = work_folder(again.folder(BOOKS)) / "step" / "received"
    received.mkdir(parents=True)
    (received.parents[1] / "building.json").write_text(json.dumps({"fingerprint": BOOKS.fingerprint}))
    (received / "model.bin").write_bytes(b"\0" * 100)
    (received / "config.json").write_bytes(b"{}and more")
    assert _pull(again).problems == {}
    assert again.verify(BOOKS) == []


# ---- several of them


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_two_that_push_one_cell_with_the_same_bytes_agree(store: Store, tmp_path: Path, kind: str) -> None:
    url = URL if kind == "memory" else f"file://{tmp_path}/remote"
    with ThreadPoolExecutor(3) as pool:
        moved = list(pool.map(lambda _: _push(store, url), range(3)))
    for one in moved:
        assert sorted(one.done + one.present) == [BOOKS.name, CORPUS.name]
        assert not one.other
        assert not one.problems
    found = _verify(url, deep=True)
    assert (found.damaged, found.foreign) == ({}, [])
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("at_once", [False, True])
def test_a_published_cell_keeps_its_bytes(store: Store, tmp_path: Path, at_once: bool) -> None:
    second = Store(tmp_path / "second")
    _build(second, BOOKS, b"v" * 1000)
    if at_once:
        with ThreadPoolExecutor(2) as pool:
            moved = list(pool.map(_push, (store, second)))
        assert sum(BOOKS.name in one.done for one in moved) == 1
        assert sum(one.other == [BOOKS.name] for one in moved) == 1
    else:
        _push(store)
        before = _remote()
        assert _push(second) == Moved(other=[BOOKS.name])
        assert _push(second, deep=True) == Moved(other=[BOOKS.name])
        assert _remote() == before
    assert _verify(deep=True).damaged == {}


def test_a_cell_with_other_first_digits_in_common_is_refused(store: Store) -> None:
    _push(store)
    second = Store(store.root.parent / "second")
    twin = Address(BOOKS.kind, BOOKS.key, "3fa9c1d2" + "1" * 56)
    _build(second, twin)
    assert "shares its first digits" in _push(second).problems[BOOKS.folder]
    third = Address(BOOKS.kind, BOOKS.key, "3fa9c1d2" + "2" * 56)
    assert "shares its first 8 digits" in _pull(second, cells=[third]).problems[BOOKS.folder]
    again = Store(store.root.parent / "again")
    assert "shares its first digits" in _pull(again, cells=[third]).problems[BOOKS.folder]
    assert _pull(again, cells=[BOOKS]).done == [BOOKS.name]


# ---- damage there


def test_a_flipped_bit_there_is_found_by_reading_and_never_published(store: Store, tmp_path: Path) -> None:
    _push(store)
    path = _weights(store.record(BOOKS))
    _write(path, b"x" + b"w" * 999)
    assert _verify().damaged == {}
    assert list(_verify(deep=True).damaged) == [BOOKS.folder]
    again = Store(tmp_path / "again")
    moved = _pull(again)
    assert moved.done == [CORPUS.name]
    assert "its content differs from the record" in moved.problems[BOOKS.folder]
    assert not again.has(BOOKS)
    assert _push(store) == Moved(present=[BOOKS.name, CORPUS.name])
    assert _push(store, deep=True) == Moved(done=[BOOKS.name], present=[CORPUS.name], bytes=1002)
    assert _verify(deep=True).damaged == {}
    assert _pull(again).done == [BOOKS.name]


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer"])
def test_a_missing_or_resized_file_there_is_named_and_mended(store: Store, tmp_path: Path, damage: str) -> None:
    _push(store)
    path = _weights(store.record(BOOKS))
    MemoryFileSystem().rm_file(path)
    if damage != "missing":
        _write(path, b"w" * (999 if damage == "shorter" else 10**6))
    assert f"memory:/{path}" in _verify().damaged[BOOKS.folder][0]
    moved = _pull(Store(tmp_path / "again"))
    assert moved.done == [CORPUS.name]
    assert f"memory:/{path}" in moved.problems[BOOKS.folder]
    assert _push(store) == Moved(done=[BOOKS.name], present=[CORPUS.name], bytes=1002)
    assert _verify(deep=True).damaged == {}


def test_half_a_record_is_written_again_and_an_unknown_one_stays(store: Store, tmp_path: Path) -> None:
    _push(store)
    whole = _remote()[RECORD]
    _write(RECORD, whole[:100])
    assert "is no whole record" in _verify().damaged[BOOKS.folder][0]
    assert list(_pull(Store(tmp_path / "again")).problems) == [BOOKS.folder]
    assert _push(store).done == [BOOKS.name]
    assert _remote()[RECORD] == whole
    newer = json.dumps({**json.loads(whole), "of_a_newer_version": 1}).encode()
    _write(RECORD, newer)
    assert "a newer one may have written it" in _push(store).problems[BOOKS.folder]
    assert _remote()[RECORD] == newer


# ---- what others put there


def test_files_of_others_are_named_and_left(store: Store, tmp_path: Path) -> None:
    _push(store)
    for path in ("notes.txt", "corpus/notes.txt", ".hidden/3fa9c1d2/record.json", "a/../../3fa9c1d2/record.json"):
        MemoryFileSystem.store[f"/lab/demo/{path}"] = MemoryFileSystem.store[RECORD]
    found = _verify()
    assert (len(found.cells), len(found.foreign), found.damaged) == (2, 4, {})
    assert len(_pull(Store(tmp_path / "again")).done) == 2
    for path in list(MemoryFileSystem.store):
        if path.endswith("remote.json"):
            del MemoryFileSystem.store[path]
    for use in (_push, _pull):
        with pytest.raises(RemoteError, match=r"is not a remote store \(it holds"):
            use(store)


@pytest.mark.parametrize(
    "file",
    ["../evil", "/etc/evil", "deep/../../evil", "record.json", "step/evil", "building.json", "a//b", "./a", "C:evil",
     ".x.partial", "a\\b", "model.bin/inner", "a.gone-0123abcd"],
)  # fmt: skip
def test_hostile_names_of_files_lead_nowhere(store: Store, tmp_path: Path, file: str) -> None:
    _push(store)
    record = json.loads(_remote()[RECORD])
    record["files"][file] = {"sha256": "0" * 64, "bytes": 4}
    _write(RECORD, json.dumps(record).encode())
    again = Store(tmp_path / "again")
    moved = _pull(again)
    assert moved.done == [CORPUS.name]
    assert list(moved.problems) == [BOOKS.folder]
    assert not list(tmp_path.rglob("evil"))
    assert list(_verify().damaged) == [BOOKS.folder]


@pytest.mark.parametrize(
    "name",
    ["../evil", "/evil", "a/../../evil", "logs/x", "store.json/x", "x.work", "a/x.damaged-0123abcd", "a/record.json"],
)
def test_hostile_names_of_cells_lead_nowhere(store: Store, tmp_path: Path, name: str) -> None:
    _push(store)
    record = json.loads(_remote()[RECORD]) | {"name": name}
    _write(RECORD, json.dumps(record).encode())
    MemoryFileSystem.store[f"/lab/demo/{name}/3fa9c1d2/record.json"] = MemoryFileSystem.store[RECORD]
    again = Store(tmp_path / "again")
    before = {path for path in tmp_path.rglob("*") if "again" not in path.parts}
    assert CORPUS.name in _pull(again).done
    assert [address.name for address, _, _ in again.entries()] == [CORPUS.name]
    assert {path for path in tmp_path.rglob("*") if "again" not in path.parts} == before
    with pytest.raises(DamagedRecordError):
        again.receive(store.record(BOOKS).model_copy(update={"name": name}), lambda folder: None)


def test_a_name_may_look_like_a_version_but_lies_in_no_cell_and_replaces_none(store: Store, tmp_path: Path) -> None:
    dated = Address("corpus", ("20240101",), "ab" * 32)
    _build(store, dated)
    _push(store)
    again = Store(tmp_path / "again")
    assert dated.name in _pull(again).done
    within = store.record(BOOKS).model_copy(update={"name": f"{CORPUS.folder}/x"})
    over = store.record(BOOKS).model_copy(update={"name": "corpus", "fingerprint": "20240101" + "0" * 56})
    for hostile in (within, over):
        with pytest.raises(DamagedRecordError, match="is a cell of this store"):
            again.receive(hostile, lambda folder: None)
    assert not again.verify(dated)
    assert not again.verify(CORPUS)


@pytest.mark.parametrize("url", ["s3://me:hunter2Secret@lab/demo", "gs://hunter2Secret@lab/demo"])
def test_a_password_in_the_address_of_a_bucket_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(RemoteError, match="holds a name or a password") as refused:
        Place(url)
    assert "hunter2" not in str(refused.value)


def test_a_record_that_is_not_of_its_recipe_is_refused(store: Store, tmp_path: Path) -> None:
    _push(store)
    problem = "record.json: somebody has changed it"
    moved = _pull(Store(tmp_path / "again"), check=lambda record: problem if record.name == BOOKS.name else None)
    assert moved.done == [CORPUS.name]
    assert moved.problems == {BOOKS.folder: f"{URL}/{BOOKS.folder}/{problem}"}
    assert list(_verify(deep=True, check=lambda record: problem).damaged) == [BOOKS.folder, CORPUS.folder]


# ---- addresses


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("runs", "is no address"),
        ("s3://", "names no bucket"),
        ("s4://bucket/x", "s4:// is not known"),
        ("memory://a/../b", "contains . or .."),
        ("simplecache::memory://a", "is no address"),
        ("memory://nowhere/x", "holds nothing; `mmgrid store push` fills it"),
    ],
)
def test_a_wrong_address_is_explained(url: str, says: str) -> None:
    with pytest.raises(RemoteError, match=says):
        _verify(url)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    for url, extra in (("s3://bucket/x", "s3"), ("gs://bucket/x", "gs")):
        with pytest.raises(RemoteError, match=rf'pip install "mmgrid\[{extra}\]"'):
            Place(url)


def test_a_password_is_not_shown() -> None:
    assert Place("memory://me:secret@lab/x/").shown == "memory://lab/x"


def test_another_format_is_refused(store: Store) -> None:
    _write("/lab/demo/remote.json", b'{"format": 2}')
    with pytest.raises(RemoteError, match="has format 2"):
        _push(store)
    _write("/lab/demo/remote.json", b"[]")
    with pytest.raises(RemoteError, match="cannot be read as the format"):
        _push(store)


def test_a_folder_that_may_not_be_written_is_said(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Any, *arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "put_file", refused)
    with pytest.raises(RemoteError, match="access is refused"):
        _push(store, f"file://{tmp_path}/remote")
    monkeypatch.setattr(LocalFileSystem, "put_file", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(RemoteError, match="no room is left there"):
        _push(store, f"file://{tmp_path}/remote")
    assert place.BLOCK_BYTES > 1 << 20
    shutil.rmtree(tmp_path / "remote")
