"""How long `mmgrid plan` takes for many cells, and its memory: of nothing, and of a store in which all are built.

The grid has a tiny backbone, so that no plan needs torch, and points of the study `base_model` in any number. Its cells
are published with records of the true recipes and one small file each, without being trained.

    python benchmarks/plan.py [--cells 10000] [--repeats 3]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmgrid.grid.cells.fingerprint import plain
from mmgrid.grid.standing.grid_store import GridStore

GRID = """
name = "many"
seed = 0
[data]
format  = "synthetic"
domains = ["a", "b", "c", "d", "e", "f"]
[phases]
pretrain = ["2017-07-01", "2022-07-01"]
phase1   = ["2022-07-01", "2022-10-01"]
phase2   = ["2022-10-01", "2023-01-01"]
test     = ["2023-01-01", "2023-04-01"]
[backbone]
kind = "tiny"
[paradigms.text]
[paradigms.semid]
[paradigms.semb]
[paradigms.sasrec]
[[studies]]
kind = "temporal"
[[studies]]
kind   = "base_model"
draws  = 1
alphas = {{ from = 0, to = 1, step = {step} }}
"""
POINTS_PER_STEP = 6 * 5 / 2 * 2 * 3 * 4  # pairs, both domains of each, three paradigms, four bases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        grid, store = Path(folder) / "many.toml", Path(folder) / "runs"
        grid.write_text(GRID.format(step=POINTS_PER_STEP / given.cells))
        print(f"{'':<14}{'cells':>8}{'seconds':>9}{'of work':>9}{'MiB':>7}")
        for state in ("nothing built", "all built"):
            if state == "all built":
                publish(grid, store)
            cells = len(GridStore.open(grid, store, ()).cells)
            runs = [planned(grid, store) for _ in range(given.repeats)]
            seconds, work, peak = (min(numbers) for numbers in zip(*runs, strict=True))
            print(f"{state:<14}{cells:>8,}{seconds:>9.2f}{work:>9.2f}{peak:>7.0f}", flush=True)


def publish(grid: Path, store: Path) -> None:
    """All cells of the grid, with records that plans read."""
    session = GridStore.open(grid, store, ())
    for cell in session.cells:
        upstream = {role: {"name": one.name, "fingerprint": one.fingerprint} for role, one in cell.upstream.items()}
        session.store.build(cell.address, plain(cell.recipe), upstream, _one_file)


def _one_file(folder: Path) -> dict[str, object]:
    (folder / "one.txt").write_text("one\n")
    phases = ("pretrain", "phase1", "phase2", "test")
    return {"statistics": {"interactions": dict.fromkeys(phases, 1000), "users": 500, "items": 400, "test_users": 300}}


def planned(grid: Path, store: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MiB of the command."""
    command = [sys.executable, "-m", "mmgrid", "plan", str(grid), "--store", str(store)]
    # As for a user, modules are compiled by the first run alone.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit("the plan failed")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
