"""Cells in a real S3 server on this machine, over HTTP, through s3fs."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mmgrid.store import Address, Store
from mmgrid.store.remote import Moved, Place, RemoteError, pull, push, verify

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

MODEL = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)
BUCKET = "s3://lab/demo"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    import s3fs

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "me",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem().mkdir("lab")
        yield address
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(autouse=True)
def _fresh(server: str) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def _store(root: Path, weights: bytes = b"w" * 100_000) -> Store:
    def make(work: Path) -> dict[str, Any]:
        (work / "deep").mkdir()
        (work / "deep" / "empty").touch()
        (work / "model.bin").write_bytes(weights)
        return {}

    store = Store(root)
    store.build(MODEL, {"seed": 0}, {}, make)
    return store


def _files(store: Store) -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes() for path in store.root.rglob("*") if path.is_file()
    }


def test_cells_come_back_byte_for_byte_and_never_change(tmp_path: Path) -> None:
    store, second = _store(tmp_path / "a"), _store(tmp_path / "b", b"v" * 100_000)
    with pytest.raises(RemoteError, match="holds nothing"):
        verify(Place(BUCKET), lambda name: True)
    with ThreadPoolExecutor(3) as pool:  # the server tells one of them that it was the first
        moved = list(pool.map(lambda one: push(one, Place(BUCKET), [MODEL]), (store, second, store)))
    assert not any(one.problems for one in moved)
    first = second if moved[1].done else store
    assert [one.other == [MODEL.name] for one in moved] == (
        [True, False, True] if first is second else [False, True, False]
    )
    assert push(first, Place(BUCKET), [MODEL]) == Moved(present=[MODEL.name])
    found = verify(Place(BUCKET), lambda name: True, deep=True)
    assert (found.cells, found.bytes, found.damaged, found.foreign) == ([MODEL.name], 100_000, {}, [])
    again = Store(tmp_path / "again")
    assert pull(again, Place(BUCKET), lambda name: True) == Moved(done=[MODEL.name], bytes=100_000)
    assert _files(again) == _files(first)


def test_what_is_wrong_is_said_in_the_users_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    store = _store(tmp_path / "a")
    for url, says in (
        ("s3://nowhere/demo", "nowhere/demo: there is no such bucket"),
        ("s3://No_Bucket!/demo", "demo: the name is not allowed"),
    ):
        with pytest.raises(RemoteError, match=says):
            push(store, Place(url), [MODEL])
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(RemoteError, match="cannot be reached"):
            pull(store, Place(BUCKET), lambda name: True)
    monkeypatch.undo()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RemoteError, match="no valid credentials are found: give"):
        push(store, Place(BUCKET), [MODEL])
