"""The package on systems that lack what Linux has: no `fcntl`, no `resource`, no `/proc`, no positioned reads, and so on."""

import ast
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import mmgrid
from kits.elsewhere import deprived_environment
from kits.tiny_grid import write_grid
from mmgrid.files import folder as folder_module
from mmgrid.files import publish, write_bytes
from mmgrid.machine import claim, cores, memory, positioned, processes
from mmgrid.store import lock as lock_module
from mmgrid.store import try_lock

# Commands of all kinds, one after the other in one process; the worker processes of `run` are deprived as well.
_COMMANDS = """
import os, sys
from mmgrid.cli.main import main
from mmgrid.machine import claim, memory

assert claim.fcntl is None and memory.resource is None
sources = [word for name in ("one", "two") for word in ("--model", f"{name}:0.5")]
for words in (
    ["init", "new.toml"],
    ["plan", "tiny.toml"],
    ["run", "tiny.toml", "--jobs", "2", "--only", "evaluation/sasrec/garden/all", "--only", "evaluation/baseline/*"],
    ["results", "tiny.toml"],
    ["status"],
    ["gc", "tiny.toml", "--yes"],
    ["doctor"],
    ["merge", "--method", "linear", *sources, "-o", "merged"],
    ["merge", "--verify", "merged"],
    ["merge", "--method", "linear", *sources, "--plan"],
):
    sys.argv = ["mmgrid", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def test_commands_work_without_what_other_systems_lack(tmp_path: Path) -> None:
    write_grid(tmp_path)
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        weights = np.random.default_rng(seed).normal(size=(64, 32)).astype(np.float32)
        save_file({"weight": weights}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        cwd=tmp_path,
        env=deprived_environment(tmp_path / "site"),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "equal the result of the recipe" in done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".lock", ".work")]


def test_a_folder_is_claimed_by_one_process_without_fcntl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "fcntl", None)
    work = tmp_path / "work"
    work.mkdir()
    with claim.claimed(work) as ours:
        assert ours
        other = f"from pathlib import Path\nfrom mmgrid.machine import claim\nclaim.fcntl = None\nwith claim.claimed(Path({str(work)!r})) as ours: print(ours)"
        seen = subprocess.run([sys.executable, "-c", other], capture_output=True, encoding="utf-8", check=True).stdout
        assert seen == "False\n"
    with claim.claimed(work) as ours:
        assert ours
        work.rename(tmp_path / "published")
    with claim.claimed(work) as ours:
        assert not ours, "another process has published the folder"
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_a_lock_tells_living_and_dead_holders_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path / "nowhere")
    path = tmp_path / "cell.lock"
    lock = try_lock(path)
    assert lock is not None
    assert lock.holder.start
    assert lock_module.is_live(path)
    assert try_lock(path) is None
    text = path.read_text(encoding="utf-8")
    lock.release()
    path.write_text(text.replace(lock.holder.start, "1.5"), encoding="utf-8")  # the number was reused
    again = try_lock(path)
    assert again is not None
    again.release()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert processes.lives(child.pid, "1.5") is False


def test_a_zombie_counts_as_dead_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path / "nowhere")
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert processes.lives(child.pid, "1") is False
    child.wait()


def test_the_peak_of_memory_is_known_without_resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nowhere")
    usual = memory.peak_bytes()
    monkeypatch.setattr(memory, "resource", None)
    memory.reset_peak()
    assert 10 << 20 < memory.peak_bytes() <= 2 * usual
    assert memory.total_bytes() > memory.peak_bytes()


def test_threads_read_and_write_at_positions_without_positioned_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(positioned.os, "preadv")
    monkeypatch.delattr(positioned.os, "pwrite")
    data = np.random.default_rng(0).bytes(1 << 16)
    pieces = [(start, data[start : start + 1000]) for start in range(0, len(data), 1000)]
    found: dict[int, bytes] = {}

    def side_by_side(work, descriptor: int) -> None:
        threads = [
            threading.Thread(target=lambda part: [work(descriptor, *piece) for piece in part], args=(pieces[n::4],))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        positioned.os.close(descriptor)

    def read(descriptor: int, start: int, piece: bytes) -> None:
        buffer = bytearray(len(piece))
        assert positioned.read_at(descriptor, memoryview(buffer), start) == len(piece)
        found[start] = bytes(buffer)

    side_by_side(
        lambda descriptor, start, piece: positioned.write_at(descriptor, memoryview(piece), start),
        positioned.open_to_write(tmp_path / "file"),
    )
    assert (tmp_path / "file").read_bytes() == data
    side_by_side(read, positioned.open_to_read(tmp_path / "file"))
    assert sorted(found.items()) == pieces


def test_folders_are_published_where_they_cannot_be_synced_or_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_SYNCS_FOLDERS", False)
    monkeypatch.setattr(folder_module, "_REPLACES_EMPTY_FOLDERS", False)
    monkeypatch.setattr(folder_module, "_SYNCS_FILES_AS", folder_module.os.O_RDWR)
    rename = Path.rename

    def strict(path: Path, target: Path) -> Path:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", strict)
    work, final = tmp_path / "out.work", tmp_path / "out"
    work.mkdir()
    final.mkdir()
    write_bytes(work / "record.json", b"{}")
    publish(work, final, replace_leftover=False)
    assert (final / "record.json").read_bytes() == b"{}"
    work.mkdir()
    write_bytes(work / "record.json", b"[]")
    (tmp_path / "full").mkdir()
    write_bytes(tmp_path / "full" / "file", b"")
    with pytest.raises(FileExistsError, match="is not empty"):
        publish(work, tmp_path / "full", replace_leftover=False)


def test_text_files_have_a_named_encoding() -> None:
    """Windows would write and read them in the encoding of the country."""
    unnamed = []
    for file in Path(mmgrid.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_bytes())):
            if not isinstance(call, ast.Call) or {"encoding", None} & {word.arg for word in call.keywords}:
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            modes = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            opens_text = name == "open" and any(mode in ("r", "w", "a", "x") for mode in modes)
            if name in ("read_text", "write_text") or opens_text:
                unnamed.append(f"{file}:{call.lineno}")
    assert unnamed == []


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_cores_are_limited_by_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], limit: int | None
) -> None:
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cores.available_cores() == (limit or 8)
