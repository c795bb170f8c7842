"""Cells in a server of Google Cloud Storage on this machine, over HTTP, through gcsfs.

Both are heavy, so the development environment lacks them: `pip install gcsfs gcp-storage-emulator`.
"""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from mmgrid.store import Address, Store
from mmgrid.store.remote import Moved, Place, RemoteError, pull, push, verify

gcsfs = pytest.importorskip("gcsfs")
objects = pytest.importorskip("gcp_storage_emulator.handlers.objects")
server = pytest.importorskip("gcp_storage_emulator.server")

MODEL = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)
BUCKET = "gs://lab/demo"


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setattr(objects, "_multipart_upload", _conditional(objects._multipart_upload))
        running = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="lab")
        running.start()
        yield
        running.stop()
        gcsfs.GCSFileSystem.clear_instance_cache()


def _conditional(upload: Any) -> Any:
    """`upload`, refused if an object must not be there yet and is: as Google's server does, and the emulator does not."""
    one_at_a_time = threading.Lock()
    written: set[str] = set()

    def insert(request: Any, response: Any, storage: Any) -> Any:
        name = request.query["name"][0] if "name" in request.query else request.data["meta"]["name"]
        with one_at_a_time:
            if request.query.get("ifGenerationMatch") == ["0"] and name in written:
                response.status = HTTPStatus.PRECONDITION_FAILED
                return None
            written.add(name)
            return upload(request, response, storage)

    return insert


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


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="gs://nowhere/demo: there is no such bucket"):
        push(_store(tmp_path), Place("gs://nowhere/demo"), [MODEL])
