"""kill -9 at the worst moments of a training, repeatedly: the result has the bytes of an undisturbed run, and each
run continues where the one before was killed."""

import json
from pathlib import Path

import pytest

from kits.processes import accident, kill, start, until
from kits.tiny_grid import Built, bytes_below, named
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.runners import run_local
from mmgrid.store import Store

NAME = "checkpoint/semb/garden/pretrain"
OFTEN = {"MMGRID_SAVE_SECONDS": "0"}  # a step checkpoint at every step

# Records the steps that are reported, and kills all processes of the run at `moment`.
TRACE = """
def die():
    os.killpg(0, signal.SIGKILL)

def traced(cell, grid, store, progress):
    def noted(step, steps, loss):
        with open({trace!r}, "a") as stream:
            stream.write(f"{{step}}\\n")
        progress(step, steps, loss)

    prepare()
    return build_cell(cell, grid, store, noted)

worker.build_cell = traced
"""
IN_A_STEP_CHECKPOINT = """
def prepare():
    import torch

    save, saved = torch.save, []

    def half(value, path, *rest, **named):
        if str(path).endswith("optimizer.pt"):
            saved.append(path)
            if len(saved) == 3:
                Path(path).write_bytes(b"half of an optimizer")
                die()
        return save(value, path, *rest, **named)

    torch.save = half
"""
BEFORE_PUBLISHING = """
def prepare():
    store.sync_folder = lambda folder: die()
"""
WHILE_PUBLISHING = """
def prepare():
    store.publish = lambda work, final, **how: die()
"""


class Victim:
    """A store in which killed runs train one checkpoint."""

    def __init__(self, grid: Built, folder: Path) -> None:
        self.grid, self.folder, self.runs = grid, folder, 0
        self.cell = named(grid.cells, NAME)
        self.work = grid.store.folder(self.cell.address).with_suffix(".work")
        grid.store.remove(self.cell.address)

    def start(self, **environment: str):
        arguments = (self.grid.file, "--store", self.grid.root, "--only", NAME, "--set", "merges=[]")
        return start("run", *arguments, environment=OFTEN | environment)

    def run_until(self, moment: str) -> int:
        """Start a run that is killed at this moment; returns the first step that it trained."""
        self.runs += 1
        trace = self.folder / f"trace{self.runs}"
        run = self.start(**accident(self.folder / f"accident{self.runs}", moment + TRACE.format(trace=str(trace))))
        run.communicate()
        assert run.returncode == -9
        assert not self.grid.store.has(self.cell.address)
        return int(trace.read_text().split()[0])

    def whole_step(self) -> int:
        """The newest step with a complete checkpoint, 0 if there is none."""
        states = self.work.glob("step/checkpoint-*/trainer_state.json")
        return max((json.loads(state.read_text())["global_step"] for state in states), default=0)


@pytest.mark.long
def test_killed_again_and_again_equals_an_undisturbed_run(built: Built, copied: Built, tmp_path: Path) -> None:
    others = {path: data for path, data in bytes_below(copied.root).items() if not path.startswith(NAME)}
    victim = Victim(copied, tmp_path)

    run = victim.start()
    until(lambda: victim.whole_step() >= 2, run)
    kill(run)
    reached = victim.whole_step()
    assert reached >= 2
    assert not Store(copied.root).has(victim.cell.address)

    assert victim.run_until(IN_A_STEP_CHECKPOINT) == reached + 1
    assert victim.whole_step() == reached + 2
    assert (victim.work / "step" / f"checkpoint-{reached + 3}" / "optimizer.pt").exists()

    assert victim.run_until(BEFORE_PUBLISHING) == reached + 3
    last = victim.whole_step()
    assert last > reached + 2
    assert (victim.work / "record.json").exists()

    victim.run_until(WHILE_PUBLISHING)
    assert (victim.work / "record.json").exists()
    assert not (victim.work / "step").exists()

    outcome = run_local(with_upstream([victim.cell]), copied.grid, copied.store)
    assert outcome.built == (NAME,)
    assert outcome.complete
    straight, killed = built.store.record(victim.cell.address), copied.store.record(victim.cell.address)
    assert killed.files == straight.files
    assert killed.summary == straight.summary
    assert copied.store.verify(victim.cell.address) == []
    assert copied.store.leftovers() == []
    after = {path: data for path, data in bytes_below(copied.root).items() if not path.startswith("logs/")}
    assert {path for path in after if not path.startswith(NAME)} - others.keys() <= {"digests.json"}
    assert all(after[path] == data for path, data in others.items() if not path.startswith("logs/"))
