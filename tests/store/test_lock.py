"""A lock is held by one living process; it is taken over from a dead holder, never from a living one."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmgrid.store import lock as lock_module
from mmgrid.store.lock import Holder, Lock, holder, is_debris, is_live, try_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cell.lock"


def _own_holder(path: Path) -> Holder:
    with _taken(path):
        found = holder(path)
    assert found is not None
    return found


def _taken(path: Path, **options: float) -> Lock:
    lock = try_lock(path, **options)
    assert lock is not None
    return lock


def _leave(path: Path, who: Holder, *, age_seconds: float = 0.0) -> None:
    path.write_text(json.dumps(asdict(who)))
    now = path.stat().st_mtime
    os.utime(path, (now - age_seconds, now - age_seconds))


def _dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_one_process_holds_a_lock_and_it_is_free_afterwards(path: Path) -> None:
    with _taken(path) as lock:
        assert lock.held()
        assert is_live(path)
        assert try_lock(path) is None
    assert not lock.held()
    assert not path.exists()
    lock.release()
    _taken(path).release()


def test_the_lock_of_a_killed_process_is_free_immediately(path: Path) -> None:
    _leave(path, replace(_own_holder(path), pid=_dead_pid(), token="theirs"))
    assert not is_live(path)
    with _taken(path) as lock:
        assert lock.held()
    assert not list(path.parent.iterdir())


def test_a_takeover_names_the_old_holder(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    own = _own_holder(path)
    for who, says in (
        (replace(own, host="elsewhere", pid=7, since="2025-03-01T10:12:44+00:00"), "since 2025-03-01T10:12:44+00:00,"),
        (Holder("elsewhere", "", 7, "1", "of an older version"), "process 7 on elsewhere,"),
    ):
        _leave(path, who, age_seconds=100)
        _taken(path).release()
        (message,) = caplog.messages
        assert message.startswith(f"{path}: taken over from process 7 on elsewhere")
        assert f"{says} which was silent for more than 60 s" in message
        caplog.clear()
    path.write_text("")
    os.utime(path, (1, 1))
    _taken(path).release()
    assert caplog.messages == [
        f"{path}: taken over from a process that left no name, which was silent for more than 60 s"
    ]
    caplog.clear()
    _leave(path, replace(own, pid=_dead_pid(), token="theirs"))
    _taken(path).release()
    (record,) = caplog.records
    assert record.getMessage().endswith(", which is gone")
    assert record.levelname == "INFO", "a run after one that was stopped is nothing unusual"
    assert own.since > "2025"


def test_a_zombie_counts_as_dead(path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from mmgrid.store import try_lock; "
        f"lock = try_lock(Path({str(path)!r})); os._exit(0)"
    )
    child = subprocess.Popen([sys.executable, "-c", script])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert path.exists()
    with _taken(path):
        pass
    child.wait()


def test_a_reused_process_number_is_another_process(path: Path) -> None:
    _leave(path, replace(_own_holder(path), pid=os.getpid(), start="1", token="theirs"))
    _taken(path).release()


def test_a_living_process_of_this_machine_keeps_its_lock_however_old_the_file(path: Path) -> None:
    _leave(path, replace(_own_holder(path), token="theirs"), age_seconds=3600)
    assert try_lock(path) is None
    assert is_live(path)


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"machine": "another boot pid:[1]"}])
def test_a_holder_on_another_machine_is_judged_by_the_age_of_the_file(path: Path, other: dict[str, str]) -> None:
    them = replace(_own_holder(path), pid=_dead_pid(), token="theirs", **other)
    _leave(path, them, age_seconds=30)
    assert try_lock(path) is None
    _leave(path, them, age_seconds=61)
    _taken(path).release()


def test_an_incomplete_lock_file_is_judged_by_its_age(path: Path) -> None:
    path.write_text('{"host": "el')
    assert try_lock(path) is None
    os.utime(path, (1, 1))
    _taken(path).release()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\x00\x1f",
        b"[" * 4000,
        b'{"host": 1, "machine": [], "pid": "x", "start": null, "token": {}}',
        b'"text"',
        *(
            b'{"host": "HOST", "machine": "SPACE", "pid": %s, "start": "1", "token": "t"}' % pid
            for pid in (b"-1", b"1e9", b"true")
        ),
    ],
)
def test_a_lock_that_names_nobody_is_judged_by_its_age(path: Path, text: bytes) -> None:
    own = _own_holder(path)
    path.write_bytes(text.replace(b"HOST", own.host.encode()).replace(b"SPACE", own.machine.encode()))
    assert holder(path) is None
    assert try_lock(path) is None
    os.utime(path, (1, 1))
    _taken(path).release()


def test_a_lock_of_the_future_ages_from_now_on(path: Path) -> None:
    path.write_bytes(b"")
    os.utime(path, (2**32, 2**32))
    assert try_lock(path) is None
    assert abs(path.stat().st_mtime - time.time()) < 3600


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_nobodys_lock(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    assert try_lock(path) is None
    os.utime(path, (1, 1), follow_symlinks=False)
    _taken(path).release()
    assert [left for left in path.parent.iterdir() if not is_debris(left)] == []


def test_the_heartbeat_touches_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched = threading.Event()
    real = os.utime

    def noticed(target: int) -> None:
        real(target)
        touched.set()

    with _taken(path, beat_seconds=0.001):
        real(path, (1, 1))
        monkeypatch.setattr(lock_module.os, "utime", noticed)
        assert touched.wait(10)
        assert path.stat().st_mtime > 1
        monkeypatch.undo()


def test_a_process_that_lost_its_lock_knows_and_leaves_the_new_one_alone(path: Path) -> None:
    lock = _taken(path)
    path.unlink()
    assert not lock.held()
    _leave(path, Holder("elsewhere", "", 1, "1", "theirs"))
    assert not lock.held()
    lock.release()
    assert holder(path) == Holder("elsewhere", "", 1, "1", "theirs")


def test_a_takeover_puts_back_a_lock_that_it_did_not_judge(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that took the stale lock between our check and our rename keeps it."""
    _leave(path, replace(_own_holder(path), pid=_dead_pid(), token="dead"))
    faster: list[Lock] = []
    judge = lock_module._is_stale

    def judge_slowly(where: Path, seen: object, seconds: float) -> bool:
        verdict = judge(where, seen, seconds)  # pyright: ignore[reportArgumentType]
        monkeypatch.setattr(lock_module, "_is_stale", judge)
        faster.append(_taken(where))
        return verdict

    monkeypatch.setattr(lock_module, "_is_stale", judge_slowly)
    assert try_lock(path) is None
    assert faster[0].held()
    faster[0].release()
    assert not list(path.parent.iterdir())


def test_putting_back_never_replaces_a_newer_lock(path: Path) -> None:
    stale = Holder("elsewhere", "", 1, "1", "stale")
    _leave(path, stale, age_seconds=100)
    seen = lock_module._look(path)
    assert seen is not None
    path.unlink()
    with _taken(path) as lock:
        assert not lock_module._take_aside(path, seen)
        assert lock.held()


def test_a_lock_without_a_thread_for_its_heartbeat_is_not_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            try_lock(path)
    assert not path.exists()  # else this process, which lives, would seem to hold it
    assert _own_holder(path)
