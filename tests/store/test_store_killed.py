"""kill -9 at any moment of a build, and several processes at once: the result is that of one undisturbed run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmgrid.store import Address, Store

BOOKS = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)

# Builds one cell, and kills itself at the moment named by its second argument. The cell takes ten steps and keeps
# the last one in step/, like a training.
BUILDER = """
import os, shutil, signal, sys
from pathlib import Path
from mmgrid.store import STEP_FOLDER, Address, Store, store as store_module

root, moment = Path(sys.argv[1]), sys.argv[2]
address = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)
rename = Path.rename

def die_at(here):
    if here == moment:
        os.kill(os.getpid(), signal.SIGKILL)

def make(work):
    die_at("before any file")
    (work / "config.json").write_text("{}")
    die_at("between files")
    steps = work / STEP_FOLDER
    steps.mkdir(exist_ok=True)
    value = int((steps / "state").read_text()) if (steps / "state").exists() else 0
    with open(root / "trace", "a") as trace:
        trace.write(f"from {value}\\n")
    for step in range(value, 10):
        (steps / "new").write_text(str(step + 1))
        (steps / "new").rename(steps / "state")
        if step == 6:
            die_at("in training")
    with open(work / "model.bin", "wb") as model:
        model.write(b"w" * 1000)
        model.flush()
        die_at("in the middle of a file")
        model.write(b"v" * 1000)
    return {"steps": 10}

def watched_rename(self, target):
    final = Path(target).name == "3fa9c1d2"
    if final:
        die_at("between record and rename")
    result = rename(self, target)
    if final:
        die_at("after the rename")
    return result

def watched_sync(folder, original=store_module.sync_folder):
    die_at("before all is on the disk")
    original(folder)
    die_at("before the steps are removed")

def watched_rmtree(folder, *rest, **named):
    if "step.gone-" in str(folder):
        os.unlink(Path(folder) / "state")
        die_at("while the steps are removed")
    remove(folder, *rest, **named)

def watched_publish(*rest, original=store_module.publish, **named):
    die_at("when the steps are removed")
    original(*rest, **named)

Path.rename = watched_rename
store_module.sync_folder = watched_sync
store_module.publish = watched_publish
remove, shutil.rmtree = shutil.rmtree, watched_rmtree
record = Store(root).build(address, {"seed": 0}, {}, make)
print("built" if record else "busy")
"""

FINISHED = [
    "before all is on the disk",
    "before the steps are removed",
    "while the steps are removed",
    "when the steps are removed",
    "between record and rename",
]
MOMENTS = [
    "before any file",
    "between files",
    "in training",
    "in the middle of a file",
    *FINISHED,
    "after the rename",
]


def _run(root: Path, moment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BUILDER, str(root), moment], capture_output=True, text=True, timeout=60, check=False
    )


def _content(root: Path) -> dict[str, bytes]:
    folder = Store(root).folder(BOOKS)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "record.json"
    }


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again_equals_an_undisturbed_run(tmp_path: Path, moment: str) -> None:
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    Store(killed)  # create the format file first, since the trace is written next to it
    Store(straight)
    assert _run(killed, moment).returncode == -9
    built = Store(killed).has(BOOKS)
    assert built == (moment == "after the rename")
    assert Store(killed).leftovers()
    for root in (killed, straight):
        again = _run(root, "never")
        assert again.stdout.strip() == "built", again.stderr
    assert _content(killed) == _content(straight)
    one, other = Store(killed).record(BOOKS), Store(straight).record(BOOKS)
    assert (one.files, one.summary, one.recipe) == (other.files, other.summary, other.recipe)
    assert Store(killed).verify(BOOKS) == []
    assert [path.name for path in Store(killed).leftovers()] == (["3fa9c1d2.lock"] if built else [])
    resumed_from = {"in training": "from 7", "in the middle of a file": "from 10"}.get(moment)
    if resumed_from:
        assert (killed / "trace").read_text().split("\n")[1] == resumed_from
    if moment in FINISHED:
        assert (killed / "trace").read_text() == "from 0\n"  # nothing was made a second time


RACER = """
import sys, time
from pathlib import Path
from mmgrid.store import Address, Store

root = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()

def make(work):
    with open(root.parent / "trace", "a") as trace:
        trace.write(work.name + "\\n")
    (work / "a.bin").write_bytes(b"a" * 100_000)
    return {}

store = Store(root)
for number in range(8):
    address = Address("corpus", (str(number),), f"{number}" * 64)
    while store.build(address, {}, {}, make) is None:
        time.sleep(0.001)
print("done", flush=True)
"""


def test_racing_processes_build_each_cell_exactly_once(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "runs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert out == "done\n", err
    store = Store(tmp_path / "runs")
    names = [address.name for address, _, _ in store.entries()]
    assert names == [f"corpus/{number}" for number in range(8)]
    assert len((tmp_path / "trace").read_text().split()) == 8
    assert store.leftovers() == []


@pytest.mark.parametrize("wrong", ["a changed byte", "another cell", "half a record"])
def test_a_finished_folder_that_does_not_fit_its_record_is_made_again(tmp_path: Path, wrong: str) -> None:
    assert _run(tmp_path, "before the steps are removed").returncode == -9
    (work,) = tmp_path.rglob("3fa9c1d2.work")
    if wrong == "a changed byte":
        (work / "model.bin").write_bytes(b"w" * 999 + b"x" + b"v" * 1000)
    elif wrong == "another cell":
        record = json.loads((work / "record.json").read_text())
        (work / "record.json").write_text(json.dumps(record | {"name": "checkpoint/semb/toys/phase1"}))
    else:
        record = (work / "record.json").read_bytes()
        (work / "record.json").write_bytes(record[: len(record) // 2])
    assert _run(tmp_path, "never").stdout.strip() == "built"
    assert (tmp_path / "trace").read_text() == "from 0\nfrom 10\n"  # its steps are there still
    assert Store(tmp_path).verify(BOOKS) == []
