"""However many files are read, few of them are open."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmgrid.machine import open_files
from mmgrid.machine.open_files import OpenFiles


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / str(number) for number in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


class Owner:
    """Reads files."""


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_the_one_that_was_used_longest_ago_is_closed(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "most_open", lambda: 4)
    pool, owner, found = OpenFiles(), Owner(), {}
    with pool.reading(owner, 0, files[0]) as held:
        for number, file in enumerate(files[1:], 1):
            with pool.reading(owner, number, file) as found[number]:
                assert os.pread(found[number], 9, 0) == file.read_bytes()
        assert os.pread(held, 9, 0) == b"0"  # it is in use, so it stays
        assert len(pool._open) == 4
    pool.close(Owner())
    assert _is_open(held)
    pool.close(owner)
    assert not pool._open
    assert not _is_open(held)


def test_threads_share_the_files(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "most_open", lambda: 3)
    pool, owner = OpenFiles(), Owner()

    def read(number: int) -> bytes:
        with pool.reading(owner, number % 20, files[number % 20]) as descriptor:
            return os.pread(descriptor, 9, 0)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(400))) == [str(number % 20).encode() for number in range(400)]
    pool.close(owner)
    assert not pool._open


def test_the_files_of_who_vanished_are_closed_and_nobody_else_reads_them(files: list[Path]) -> None:
    pool, owner = OpenFiles(), Owner()
    with pool.reading(owner, 0, files[0]) as descriptor:
        assert os.pread(descriptor, 9, 0) == b"0"
    del owner
    assert not pool._open
    for number, file in enumerate(files):  # new owners, whose addresses are likely that of the first
        with pool.reading(Owner(), 0, file) as descriptor:
            assert os.pread(descriptor, 9, 0) == str(number).encode()
