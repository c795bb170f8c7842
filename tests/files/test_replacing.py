"""Files that replace older ones together: after an error, every old one is there, and nothing is left over."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kits.tiny_grid import bytes_below
from mmgrid.files import replacing, replacing_file, replacing_files, replacing_folder

Replacing = Callable[[Path], AbstractContextManager[Path]]
OLD = {"a": b"old a", "b": b"old b", "c": b"old c"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    return folder


def _replace(context: AbstractContextManager[Path]) -> None:
    with context as work:
        (work / "a").write_bytes(b"new a")
        (work / "b").write_bytes(b"new b")


def test_a_folder_is_replaced_as_a_whole(old: Path) -> None:
    _replace(replacing_folder(old))
    assert bytes_below(old.parent) == {"out/a": b"new a", "out/b": b"new b"}
    _replace(replacing_folder(old.with_name("new")))
    assert bytes_below(old.with_name("new")) == bytes_below(old)


def test_files_are_replaced_and_others_stay(old: Path) -> None:
    _replace(replacing_files(old))
    assert bytes_below(old.parent) == {"out/a": b"new a", "out/b": b"new b", "out/c": b"old c"}


@pytest.mark.parametrize("make", [replacing_folder, replacing_files])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_before_the_last_file_changes_nothing(old: Path, make: Replacing, error: BaseException) -> None:
    def fail() -> None:
        with make(old) as work:
            (work / "a").write_bytes(b"new a")
            assert bytes_below(old).items() >= OLD.items()
            raise error

    with pytest.raises(type(error)):
        fail()
    assert bytes_below(old.parent) == {f"out/{name}": content for name, content in OLD.items()}


@pytest.mark.parametrize("make", [replacing_folder, replacing_files])
def test_an_interruption_leaves_no_new_folder(tmp_path: Path, make: Replacing) -> None:
    with pytest.raises(KeyboardInterrupt), make(tmp_path / "new"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_replaced_where_folders_cannot_be_exchanged(
    old: Path, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(replacing, "_exchanged_at_once", lambda one, other: False)
    _replace(replacing_folder(old))
    assert bytes_below(old.parent) == {"out/a": b"new a", "out/b": b"new b"}
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if target == old and (path / "b").read_bytes() == b"new b":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    if not at_once:
        (old / "b").write_bytes(b"old b")
        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output"):
            _replace(replacing_folder(old))
        assert bytes_below(old.parent) == {"out/a": b"new a", "out/b": b"old b"}


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    with replacing_file(path, b"new"):
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with pytest.raises(KeyboardInterrupt), replacing_file(path, b"newer"):
        raise KeyboardInterrupt
    assert bytes_below(tmp_path) == {"page.html": b"new"}


KILLED = """
import os, sys
from pathlib import Path
from mmgrid.files import replacing_files, replacing_folder
make = replacing_folder if sys.argv[1] == "folder" else replacing_files
with make(Path(sys.argv[2])) as work:
    (work / "a").write_bytes(b"half")
    print(work, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("kind", "make"), [("folder", replacing_folder), ("files", replacing_files)])
def test_the_next_replacement_clears_what_a_killed_one_left_and_nothing_that_lives(
    old: Path, kind: str, make: Replacing
) -> None:
    command = [sys.executable, "-c", KILLED, kind, str(old)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
    ):
        works = [Path(process.stdout.readline().strip()) for process in (killed, living)]  # type: ignore[union-attr]
        killed.kill()
        killed.wait()
        half_removed = works[0].with_name(f".{'out.' if kind == 'folder' else ''}0123abcd.partial.gone-0123abcd")
        half_removed.mkdir()
        others = [works[0].with_name(name) for name in (".other.0123abcd.partial", ".out.0123.partial", "out.work")]
        for other in others:
            other.mkdir()
        _replace(make(old))
        assert [work.exists() for work in works] == [False, True]
        assert not half_removed.exists()
        assert all(other.exists() for other in others)
        living.kill()
