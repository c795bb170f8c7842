"""Places and terminals that are odd: addresses as folders, encodings that are not Unicode, no folder for temporary files."""

import io
import json
import sys
from pathlib import Path

import pytest

from mmgrid.cli import draw
from mmgrid.cli.main import _explained
from mmgrid.files.foreign import in_one_line
from mmgrid.files.outputs import check_not_read
from mmgrid.grid.standing.store_place import store_nearby
from mmgrid.store import Store, StoreError


def test_an_address_is_no_store_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="s3://lab/demo: is an address, and a store is a folder on a disk"):
        Store(Path("s3://lab/demo"))
    with pytest.raises(FileNotFoundError, match="s3://lab/demo: is an address"):
        store_nearby(Path("s3://lab/demo")).check_exists()
    with pytest.raises(ValueError, match=r"https://…@x.org/r.html: is an address"):
        check_not_read(Path("https://me:hunter2@x.org/r.html"), [])
    assert not list(tmp_path.iterdir())
    Path("https:").mkdir()
    Store(Path("https:/x"))  # a folder of such a name that is there


@pytest.mark.parametrize("encoding", ["iso8859-5", "latin-1", "cp1252", "shift_jis", "ascii", "utf-8"])
def test_json_is_valid_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"é日本😀": ["\x85", "\u2028", "ü"]}
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace"))
    draw.print_json(value)
    draw.print_json_line(value)
    sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(text)
    assert first == value
    assert json.loads(text[end:]) == value


def test_no_folder_for_temporary_files_is_explained() -> None:
    error = FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/var/tmp']")
    said = "no folder for temporary files can be written (tried: '/tmp', '/var/tmp'): set TMPDIR to one that can"
    assert in_one_line(error) == _explained(error) == said
