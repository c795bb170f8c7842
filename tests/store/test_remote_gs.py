"""Cells in a server of Google Cloud Storage on this machine, over HTTP, through gcsfs.

Both are heavy, so the development environment lacks them: `pip install gcsfs gcp-storage-emulator`.
"""

import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from kits.remote_cells import MODEL, assert_comes_back_and_never_changes, store_of_a_model
from mmgrid.store.remote import Place, RemoteError, push

gcsfs = pytest.importorskip("gcsfs")
objects = pytest.importorskip("gcp_storage_emulator.handlers.objects")
server = pytest.importorskip("gcp_storage_emulator.server")

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


def test_cells_come_back_byte_for_byte_and_never_change(tmp_path: Path) -> None:
    assert_comes_back_and_never_changes(BUCKET, tmp_path)


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="gs://nowhere/demo: there is no such bucket"):
        push(store_of_a_model(tmp_path), Place("gs://nowhere/demo"), [MODEL])
