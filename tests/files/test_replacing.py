"""Files that replace older ones together: after an error, every old one is there, and nothing is left over."""

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
