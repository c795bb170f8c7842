"""Bad input, end to end: one clear line that names the file, exit code 1, and built cells are kept."""

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kits.tiny_grid import BASELINES, Built, bytes_below, cells_of, contents, mmgrid, named, write_raw_grid
from mmgrid.grid.file.load import load_grid

KITCHEN = {"corpus/kitchen", "evaluation/baseline/kitchen/popularity", "evaluation/baseline/kitchen/random"}
GARDEN = {name.replace("kitchen", "garden") for name in KITCHEN}
T2_MS = 1_672_531_200_000  # 2023-01-01


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A grid of raw files with one domain built and the other not."""
    folder = tmp_path_factory.mktemp("raw-grid")
    file = write_raw_grid(folder)
    answer = mmgrid("run", file, "--store", folder / "runs", "--only", "evaluation/baseline/kitchen/*", "--jobs", "1")
    assert answer.code == 0, answer
    return Built(file, folder / "runs")


@pytest.fixture
def grid(half: Built, tmp_path: Path) -> Built:
    """A copy of `half`, in which the raw files may be broken."""
    shutil.copytree(half.file.parent / "raw", tmp_path / "raw")
    return half.copy(tmp_path)


def _ratings(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = folder / "garden.csv.gz"
    table = change(pl.read_csv(path))
    path.write_bytes(gzip.compress(table.write_csv().encode()))


def _items(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = folder / "meta_garden.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join(change(lines)).encode()))


def _untitled(line: str) -> str:
    return json.dumps(json.loads(line) | {"title": None})


def _cut_off(raw: Path) -> None:
    path = raw / "garden.csv.gz"
    path.write_bytes(path.read_bytes()[:4000])


def _broken_line(raw: Path) -> None:
    _items(raw, lambda lines: [*lines[:6], lines[6][:-9], *lines[7:]])


def _no_number(raw: Path) -> None:
    _ratings(
        raw,
        lambda table: table.with_columns(
            pl.when(pl.int_range(pl.len()) == 40).then(pl.lit("soon")).otherwise(pl.col("timestamp")).alias("timestamp")
        ),
    )


# What is done to the raw files of garden, and how the one line begins, RAW standing for their folder.
BROKEN = {
    "a gzip file that is cut off": (_cut_off, "RAW/garden.csv.gz: the gzip file is cut off at or after line "),
    "no gzip file": (
        lambda raw: (raw / "garden.csv.gz").write_text("<html>not found</html>"),
        "RAW/garden.csv.gz: is a web page, such as the error page of a failed download; ",
    ),
    "a broken JSON line": (_broken_line, "RAW/meta_garden.jsonl.gz:7: broken JSON "),
    "a timestamp that is no number": (
        _no_number,
        "RAW/garden.csv.gz:42: timestamp is 'soon'; expected a number of milliseconds",
    ),
    "timestamps in seconds": (
        lambda raw: _ratings(raw, lambda table: table.with_columns(pl.col("timestamp") // 1000)),
        "RAW/garden.csv.gz: its timestamps (from ",
    ),
    "nobody to test": (
        lambda raw: _ratings(raw, lambda table: table.filter(pl.col("timestamp") < T2_MS)),
        "garden: no test users: no user's last interaction lies in test [2023-01-01, 2023-04-01) ",
    ),
    "no item with a text": (
        lambda raw: _items(raw, lambda lines: list(map(_untitled, lines))),
        "garden: none of its ",
    ),
    "no interaction within the phases": (
        lambda raw: _ratings(raw, lambda table: table.with_columns(pl.col("timestamp") - 20 * 365 * 86_400_000)),
        "garden: no interactions are left. Dropped: ",
    ),
    "items of something else": (
        lambda raw: _items(raw, lambda lines: [line.replace('"B0', '"C0') for line in lines]),
        "RAW/meta_garden.jsonl.gz: contains none of the items in RAW/garden.csv.gz; do the two files belong together?",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_domain_is_one_line_and_the_other_one_is_kept(case: str, grid: Built) -> None:
    breaks, says = BROKEN[case]
    raw = grid.file.parent / "raw"
    breaks(raw)
    before = bytes_below(grid.root)
    answer = mmgrid("run", grid.file, "--store", grid.root, "--only", BASELINES, "--jobs", "1")
    assert answer.code == 1
    assert answer.err == ""
    lines = answer.out.splitlines()
    failures = [line for line in lines if "failed  " in line]
    assert len(failures) == 1
    assert f"failed  corpus/garden: {says.replace('RAW', str(raw))}" in failures[0]
    assert "Error" not in failures[0]
    below = lines[lines.index("blocked by corpus/garden: 2 cells") + 1 :]
    assert set(below[:2]) == {f"  {name}" for name in GARDEN - {"corpus/garden"}}
    assert lines[-1].startswith("1 failed, 2 blocked; finished cells are kept: fix the problem and run again")
    after = bytes_below(grid.root)
    assert all(after[path] == data for path, data in before.items() if path != "digests.json")
    assert {name.split()[0] for name in contents(grid.root)} == KITCHEN


def test_a_failed_cell_is_shown_until_it_is_built(grid: Built, tmp_path: Path) -> None:
    raw, store = grid.file.parent / "raw" / "garden.csv.gz", ("--store", grid.root)
    whole = raw.read_bytes()
    run = ("run", grid.file, *store, "--only", BASELINES, "--jobs", "1")
    _cut_off(raw.parent)
    assert mmgrid(*run).code == 1
    says = f"{raw}: the gzip file is cut off at or after line "
    blocked = GARDEN - {"corpus/garden"}

    status = mmgrid("status", *store, "--json").json["failed"]
    assert status.keys() == {"corpus/garden"}
    assert status["corpus/garden"]["message"].startswith(says)
    assert set(status["corpus/garden"]["blocked"]) == blocked
    lines = mmgrid("status", *store).out.splitlines()
    assert any(line.startswith(f"failed corpus/garden: {says}") for line in lines)
    assert ["blocked by corpus/garden: 2 cells", *(f"  {name}" for name in sorted(blocked))] == [
        line for line in lines if line.startswith(("blocked", "  "))
    ]

    plan = ("plan", grid.file, *store, "--only", BASELINES)
    states = {cell["name"]: (cell["state"], cell["problem"]) for cell in mmgrid(*plan, "--json").json}
    assert states["corpus/garden"][0] == "failed"
    assert states["corpus/garden"][1].startswith(says)
    assert {states[name] for name in blocked} == {("blocked", "corpus/garden")}
    assert {states[name] for name in KITCHEN} == {("built", None)}
    text = mmgrid(*plan).out
    assert "garden  failed about " in text
    assert text.count(" blocked cost unknown") == 2
    assert f"\nfailed corpus/garden: {says}" in text

    page = tmp_path / "report.html"
    assert mmgrid("report", grid.file, *store, "-o", page).code == 0
    cells = {row["name"]: row for row in _cells(page)}
    assert cells["corpus/garden"]["state"] == "failed"
    assert cells["corpus/garden"]["problem"].startswith(says)
    assert {(cells[name]["state"], cells[name]["problem"]) for name in blocked} == {
        ("blocked", "waits for corpus/garden")
    }
    assert f"Failed: corpus/garden ({says}" in page.read_text()

    raw.write_bytes(whole)
    assert mmgrid(*run).code == 0
    assert mmgrid("status", *store, "--json").json["failed"] == {}
    assert {cell["state"] for cell in mmgrid(*plan, "--json").json} == {"built"}


def _cells(page: Path) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return pl.read_csv(json.loads(found[1])["exports"]["table-cells"]["csv"].encode()).to_dicts()


def test_gc_forgets_failures_of_cells_that_the_grid_does_not_name(grid: Built) -> None:
    _cut_off(grid.file.parent / "raw")
    store = ("--store", grid.root)
    assert mmgrid("run", grid.file, *store, "--only", "corpus/garden").code == 1
    assert mmgrid("gc", grid.file, *store, "--yes").out.startswith("  ")  # the work folder that it left
    assert mmgrid("status", *store, "--json").json["failed"].keys() == {"corpus/garden"}
    answer = mmgrid("gc", grid.file, *store, "--yes", "--set", "data.min_interactions=6")
    assert answer.code == 0
    assert re.search(r"^  corpus/garden/[0-9a-f]{8} \(failed\)$", answer.out, re.MULTILINE)
    assert mmgrid("status", *store, "--json").json["failed"] == {}


def test_a_missing_raw_file_is_reported_before_anything_is_built(grid: Built) -> None:
    (grid.file.parent / "raw" / "garden.csv.gz").unlink()
    answer = mmgrid("run", grid.file, "--store", grid.root)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"mmgrid: {grid.file.parent}/raw/garden.csv.gz: no such file (nor garden.csv, ")
    assert answer.err.count("\n") == 1


def test_an_item_without_text_is_left_out_and_counted(grid: Built) -> None:
    raw = grid.file.parent / "raw"
    table = pl.read_csv(raw / "garden.csv.gz")
    taken = table.group_by("parent_asin").len().sort("len", "parent_asin")["parent_asin"][-1]

    def change(lines: list[str]) -> list[str]:
        return [_untitled(line) if json.loads(line)["parent_asin"] == taken else line for line in lines]

    lines = gzip.decompress((raw / "meta_garden.jsonl.gz").read_bytes()).splitlines()
    before = sum(json.loads(line)["title"] is None for line in lines)
    _items(raw, change)
    assert mmgrid("run", grid.file, "--store", grid.root, "--only", BASELINES).code == 0
    cell = named(cells_of(load_grid(grid.file)), "corpus/garden")
    record = grid.store.record(cell.address)
    assert record.summary["untitled_items"] == before + 1
    items = pl.read_parquet(grid.store.folder(cell.address) / "items.parquet")
    assert taken not in items["item_id"].to_list()
    assert items["title"].str.len_chars().min() > 0


def test_statistics_of_a_grid_with_a_broken_domain_show_the_other_one(grid: Built) -> None:
    _cut_off(grid.file.parent / "raw")
    answer = mmgrid("data", "stats", grid.file, "--store", grid.root, "--json")
    assert answer.code == 1
    assert answer.err.startswith(f"mmgrid: {grid.file.parent}/raw/garden.csv.gz: the gzip file is cut off")
    assert answer.err.count("\n") == 1
    assert [row["domain"] for row in answer.json] == ["kitchen"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate, small file system."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_reported_and_the_run_continues_once_there_is_space(half: Built, small_disk: Path) -> None:
    store = small_disk / "runs"
    arguments = ("run", half.file, "--store", store, "--only", BASELINES, "--jobs", "1")
    size = sum(len(data) for data in bytes_below(half.folder("corpus/kitchen")).values())

    def resize(size_bytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(small_disk)], check=True)

    resize(3 * size)  # room for one domain and not for two
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * size)
    full = mmgrid(*arguments)
    assert full.code == 1
    failures = [line for line in full.out.splitlines() if "failed  " in line]
    assert failures
    for line in failures:
        assert "could not be written: no space left on the device (" in line
        assert "Make room there or give another place with --store" in line
    before = bytes_below(store)
    published = contents(store)

    resize(100 * size)
    again = mmgrid(*arguments)
    assert again.code == 0, again
    after = bytes_below(store)
    changes = ("digests.json", "failed.json", ".log", ".jsonl")
    kept = {path for path in before if ".work/" not in path and not path.endswith(changes)}
    assert all(after[path] == before[path] for path in kept)
    assert published.items() <= contents(store).items()
    assert {name.split()[0] for name in contents(store)} == KITCHEN | GARDEN
    assert mmgrid("status", "--store", store, "--json").json["leftovers"] == []
