"""A full disk gives one clear error, whichever library runs into it."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from polars.exceptions import ComputeError
from safetensors.numpy import save_file

from mmgrid.files import DiskFull, NotWritableError, clear_disk_errors, write_bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root: " + mounted.stderr.decode().strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_file_system_under_python(small_disk: Path) -> None:
    with pytest.raises(DiskFull, match=r"no space left.*MiB free.*Nothing that was published") as caught:
        with clear_disk_errors(small_disk / "big", remedy="use --store"):
            write_bytes(small_disk / "big", bytes(2 << 20))
    assert caught.value.errno == errno.ENOSPC
    assert "use --store" in str(caught.value)
    assert not list(small_disk.iterdir())


def test_a_full_file_system_under_safetensors(small_disk: Path) -> None:
    with pytest.raises(DiskFull):
        with clear_disk_errors(small_disk):
            save_file({"weight": np.zeros(1 << 20, np.float32)}, small_disk / "model.safetensors")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFull),
        (RuntimeError("I/O error: No space left on device (os error 28)"), DiskFull),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 10944 vs 10884"), DiskFull),
        (ComputeError("parquet: File out of specification: Invalid thrift: transport error"), DiskFull),
        (RuntimeError("basic_ios::clear: iostream error"), DiskFull),
        (OSError(errno.EFBIG, "File too large"), OSError),
        (RuntimeError("underlying IO error: File too large (os error 27)"), OSError),
        (OSError(errno.EROFS, "Read-only file system"), NotWritableError),
        (PermissionError(errno.EACCES, "Permission denied"), NotWritableError),
    ],
)
def test_errors_of_a_full_disk_in_every_form(tmp_path: Path, error: Exception, expected: type[OSError]) -> None:
    with pytest.raises(expected, match="run the same command again") as caught:
        with clear_disk_errors(tmp_path / "not" / "there"):
            raise error
    assert caught.value.__cause__ is error


def test_a_file_that_may_not_be_so_large(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a: could not be written: .*`ulimit -f`.*Nothing that was published"):
        with clear_disk_errors(tmp_path / "a"):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="could not be written: a folder is there; name a file"):
        with clear_disk_errors(tmp_path):
            write_bytes(tmp_path, b"x")


def test_a_cause_behind_another_error_is_found(tmp_path: Path) -> None:
    def save() -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("could not save") from error

    with pytest.raises(DiskFull), clear_disk_errors(tmp_path):
        save()


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/somewhere/else/source.csv")
    beside = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a" / "source" / "x"))
    for error in (elsewhere, beside, ValueError("file write failed"), FileNotFoundError("x")):
        with pytest.raises(type(error)) as caught:
            with clear_disk_errors(tmp_path / "a" / "b"):
                raise error
        assert caught.value is error


def test_siblings_named_after_the_target_belong_to_it(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "cell", tmp_path / "cell.work" / "x", tmp_path / ".cell.1.partial"):
        with pytest.raises(NotWritableError):
            with clear_disk_errors(tmp_path / "cell"):
                raise PermissionError(errno.EACCES, "Permission denied", str(name))


def test_nested_blocks_explain_once(tmp_path: Path) -> None:
    with pytest.raises(DiskFull) as caught:
        with clear_disk_errors(tmp_path / "outer"), clear_disk_errors(tmp_path / "inner"):
            raise OSError(errno.ENOSPC, "full")
    assert "inner" in str(caught.value)
    assert "outer" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [("a/b/x", "there is no folder .*/a/b; create it"), ("file/x", "file is a file"), ("x" * 300, "too long")],
)
def test_a_place_that_cannot_be_is_named(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=rf"{name[:99]}.*: could not be written: .*{why}"):
        with clear_disk_errors(path):
            write_bytes(path, b"x")
