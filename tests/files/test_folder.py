"""Folders and files appear complete or not at all, and an old version stays until then."""

import errno
import json
import os
from pathlib import Path

import pytest

from mmgrid.files import folder as folder_module
from mmgrid.files import publish, remove_folder, work_folder, write_bytes, write_json


def _filled(work: Path) -> Path:
    work.mkdir()
    (work / "a.bin").write_bytes(b"a")
    (work / "record.json").write_text("{}")
    return work


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_publish_renames_the_stable_sibling(tmp_path: Path) -> None:
    final = tmp_path / "cell"
    assert work_folder(final) == tmp_path / "cell.work"
    publish(_filled(work_folder(final)), final)
    assert _names(tmp_path) == ["cell"]
    assert (final / "a.bin").read_bytes() == b"a"


def test_publish_refuses_a_folder_without_its_last_file(tmp_path: Path) -> None:
    (tmp_path / "cell.work").mkdir()
    with pytest.raises(FileNotFoundError, match=r"record\.json"):
        publish(tmp_path / "cell.work", tmp_path / "cell")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_published_files_follow_the_umask_whichever_library_wrote_them(tmp_path: Path, umask: int, mode: int) -> None:
    private, outside = tmp_path / "cell.work" / "inner" / "weights", tmp_path / "outside"
    outside.touch(0o600)
    before = os.umask(umask)
    try:
        _filled(tmp_path / "cell.work")
        private.parent.mkdir()
        os.close(os.open(private, os.O_CREAT, 0o600))
        (tmp_path / "cell.work" / "link").symlink_to(outside)
        publish(tmp_path / "cell.work", tmp_path / "cell")
    finally:
        os.umask(before)
    for name in ("a.bin", "record.json", "inner/weights"):
        assert (tmp_path / "cell" / name).stat().st_mode & 0o777 == mode
    assert outside.stat().st_mode & 0o777 == 0o600


def test_publish_replaces_a_leftover_but_no_published_folder(tmp_path: Path) -> None:
    final = tmp_path / "cell"
    final.mkdir()
    (final / "half").write_text("left by a copy that was cut off")
    publish(_filled(work_folder(final)), final)
    assert _names(final) == ["a.bin", "record.json"]
    with pytest.raises(FileExistsError, match="never overwritten"):
        publish(_filled(work_folder(final)), final)
    assert work_folder(final).exists()


def test_publish_among_a_users_folders_replaces_only_an_empty_one(tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.mkdir()
    (final / "thesis.tex").write_text("dear to somebody")
    with pytest.raises(FileExistsError, match="not empty"):
        publish(_filled(work_folder(final)), final, replace_leftover=False)
    (final / "thesis.tex").unlink()
    publish(work_folder(final), final, replace_leftover=False)
    assert (final / "a.bin").exists()


def test_remove_folder_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = _filled(tmp_path / "cell")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(victim)
    assert not victim.exists()
    (gone,) = tmp_path.iterdir()
    assert folder_module.is_gone(gone)
    remove_folder(victim)  # absent: nothing to do


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"λ": 1.5})
    assert json.loads(path.read_text()) == {"λ": 1.5}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert _names(tmp_path) == ["facts.json"]
    assert json.loads(path.read_text()) == {"λ": 1.5}


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
