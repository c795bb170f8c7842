"""Cells in a real S3 server on this machine, over HTTP, through s3fs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kits.remote_cells import MODEL, assert_comes_back_and_never_changes, store_of_a_model
from mmgrid.store.remote import Place, RemoteError, pull, push

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

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


def test_cells_come_back_byte_for_byte_and_never_change(tmp_path: Path) -> None:
    assert_comes_back_and_never_changes(BUCKET, tmp_path)


def test_what_is_wrong_is_said_in_the_users_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    store = store_of_a_model(tmp_path / "a")
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
