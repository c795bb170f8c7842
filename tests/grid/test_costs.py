"""What a grid costs before it is built: the demo's as it was measured, the paper's on a machine that has nothing."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kits.tiny_grid import mmgrid
from mmgrid.data import DataError
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import computes
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.costs.disk import disk_of
from mmgrid.grid.costs.estimate import estimate
from mmgrid.grid.costs.known import Known
from mmgrid.grid.costs.makespan import makespan
from mmgrid.grid.costs.memory import memory_of
from mmgrid.grid.costs.totals import total, with_jobs
from mmgrid.grid.file.load import Grid, GridError, load_grid
from mmgrid.machine.rates import rate_of

GRIDS = Path(__file__).parents[2] / "grids"
RECORDED = json.loads((Path(__file__).parent / "demo_costs.json").read_text())
HOUR = 3600.0
FEW = {"studies": []}


@cache
def _paper() -> tuple[Grid, list[Cell]]:
    """The paper's grid without its studies, whose cells are thousands."""
    grid = load_grid(GRIDS / "paper.toml", FEW)
    return grid, expand(grid, lambda path: "0" * 64, bare=True)


def _costs(grid: Grid, cells: list[Cell], device: str) -> dict[str, float]:
    found = estimate(cells, Known({}, grid), gpu=rate_of(device), corrected=False)
    assert None not in found.values()
    return {cell.name: seconds or 0.0 for cell, seconds in found.items()}


def _demo() -> tuple[Grid, list[Cell], dict[Cell, Any]]:
    grid = load_grid(GRIDS / "demo.toml")
    cells = [cell for cell in expand(grid, lambda _: "0" * 64) if cell.name in RECORDED["seconds"]]
    built = {
        cell: SimpleNamespace(
            seconds=RECORDED["seconds"][cell.name],
            summary={"statistics": RECORDED["statistics"][cell.recipe["domain"]]},
        )
        for cell in cells
        if cell.kind == "corpus"
    }
    return grid, cells, built


def test_the_demo_costs_what_was_measured() -> None:
    """Without any measured model: from the arithmetic of its cells, and a typical core."""
    grid, cells, built = _demo()
    found = estimate(cells, Known(built, grid), corrected=False)
    groups: dict[str, list[float]] = {}
    for cell, seconds in found.items():
        assert seconds is not None
        sums = groups.setdefault(f"{cell.kind} {cell.recipe.get('paradigm')}", [0.0, 0.0])
        sums[0] += RECORDED["seconds"][cell.name]
        sums[1] += seconds
    whole = [sum(sums[place] for sums in groups.values()) for place in (0, 1)]
    assert whole[1] == pytest.approx(whole[0], rel=0.25)
    for group, (measured, expected) in groups.items():
        if measured > 0.01 * whole[0]:
            assert 0.5 < expected / measured < 2, group


def test_measured_cells_win_over_rates() -> None:
    grid, cells, built = _demo()
    first, other = (
        next(cell for cell in cells if cell.name == f"checkpoint/semb/{domain}/pretrain")
        for domain in ("garden", "kitchen")
    )
    by_rates = estimate(cells, Known(built, grid))[other]
    slow: dict[Cell, Any] = built | {first: SimpleNamespace(seconds=50 * RECORDED["seconds"][first.name], summary={})}
    found = estimate(cells, Known(slow, grid))
    assert by_rates is not None
    assert found[other] == pytest.approx(50 * RECORDED["seconds"][first.name], rel=0.2)
    assert estimate(cells, Known(slow, grid), corrected=False)[other] == pytest.approx(by_rates, rel=0.2)


def test_trainings_of_the_paper_take_hours() -> None:
    grid, cells = _paper()
    h100, a100 = (_costs(grid, cells, device) for device in ("h100", "a100"))
    for paradigm in ("text", "semid", "semb"):
        large, small = (
            f"checkpoint/{paradigm}/{domain}/pretrain" for domain in ("Health_and_Household", "Video_Games")
        )
        assert HOUR < h100[large] < 48 * HOUR
        assert h100[small] < h100[large] / 8
        assert 2 * h100[large] < a100[large] < 5 * h100[large]
    assert sum(h100.values()) > 48 * HOUR


def test_eight_devices_are_faster_than_one_and_use_as_many_hours() -> None:
    grid, cells = _paper()
    known = Known({}, grid)
    costs = estimate(cells, known, gpu=rate_of("h100"), corrected=False)
    one, eight = (total(costs, known, n) for n in (1, 8))
    assert one.work == eight.work
    assert one.seconds == pytest.approx(one.work, rel=0.1), "one device is always busy"
    longest = sum(
        costs[cell] or 0.0
        for cell in cells
        if cell.kind == "checkpoint" and cell.key[:2] == ("semb", "Health_and_Household")
    )
    assert longest < eight.seconds < one.seconds / 2, "a chain of phases cannot be divided"
    assert one.disk == eight.disk > 54 * 4 * 596_000_000


def test_what_needs_no_device_stays_on_cores() -> None:
    _, cells = _paper()
    on_cores = {cell.kind for cell in cells if not computes(cell)}
    assert on_cores == {"corpus", "base", "evaluation"}
    assert {cell.key[0] for cell in cells if cell.kind == "evaluation" and not computes(cell)} == {"baseline"}


def test_data_are_not_needed_to_plan_but_to_build() -> None:
    grid, cells = _paper()
    assert {cell.recipe["files"] for cell in cells if cell.kind == "corpus"} == {"absent"}
    with pytest.raises(DataError, match="amazon2023"):
        expand(grid, lambda path: "0" * 64)


def test_a_domain_that_the_grid_does_not_expect_must_be_there(tmp_path: Path) -> None:
    text = (GRIDS / "paper.toml").read_text().replace("[data.expected.Books]", "[data.expected.Book]")
    file = tmp_path / "paper.toml"
    file.write_text(text)
    with pytest.raises(GridError, match="data: expected: Book is not in the grid"):
        load_grid(file)
    start = text.index("[data.expected.Book]")
    file.write_text(text[:start] + text[text.index("[data.expected.Health") :])
    with pytest.raises(DataError, match="Books"):
        expand(load_grid(file, FEW), lambda path: "0" * 64, bare=True)


def test_disk_is_that_of_the_weights() -> None:
    grid, cells = _paper()
    room = {cell.name: disk_of(cell, Known({}, grid)) for cell in cells}
    assert room["backbone/pretrained"] == pytest.approx(2 * 596_049_920, rel=0.05)
    assert room["checkpoint/text/Books/phase1"] == pytest.approx(4 * 596_049_920, rel=0.05)
    assert (room["vectors/Books/titles"] or 0) > 1e9


def _chain(*names: str) -> list[Cell]:
    cells: list[Cell] = []
    for name in names:
        cells.append(Cell("base", (name,), {}, {"above": cells[-1]} if cells else {}))
    return cells


def test_a_makespan_counts_places_and_chains() -> None:
    chain = _chain("a", "b", "c")
    single = [Cell("corpus", (name,), {"domain": name}) for name in "xyz"]
    seconds = dict.fromkeys([*chain, *single], 10.0)

    def place(cell: Cell) -> str:
        return "gpu" if cell.kind == "base" else "core"

    assert makespan(seconds, {"gpu": 1, "core": 1}, place) == 30.0, "cores work beside the GPU"
    assert makespan(seconds, {"gpu": 8, "core": 3}, place) == 30.0, "a chain is one after the other"
    assert makespan(dict.fromkeys(single, 10.0), {"gpu": 8, "core": 2}, place) == 20.0
    assert makespan(seconds, {"gpu": 1, "core": 1}, place, {chain[0]: None}) == 30.0
    assert [with_jobs({**seconds, single[0]: None}, jobs) for jobs in (1, 2, None)] == [50.0, 30.0, 30.0]


def test_several_processes_divide_time_and_batch_and_sharded_ones_the_weights() -> None:
    grid, cells = _paper()
    known = Known({}, grid)
    alone, elsewhere = [cell for cell in cells if cell.kind == "checkpoint" and cell.key[::2] == ("text", "pretrain")][
        :2
    ]
    four = replace(alone, processes=4)
    (slow,), (fast,) = (
        estimate([cell], known, gpu=rate_of("h100"), corrected=False).values() for cell in (alone, four)
    )
    assert slow
    assert fast == pytest.approx(slow / 4, rel=0.01)
    assert total({four: fast}, known, 4).seconds == pytest.approx(fast)
    assert total({four: fast}, known, 1).seconds == pytest.approx(slow, rel=0.01), "as in one process"
    one, other, least = (memory_of(cell, known) for cell in (alone, four, replace(four, sharded=True)))
    assert one
    assert other
    assert least
    assert other.weights == one.weights
    assert 0.2 < other.activations / one.activations < 0.6
    assert least.optimizer == one.optimizer / 4
    assert one.weights / 4 < least.weights < 0.7 * one.weights, "the token table stands there whole, and one layer"
    wide = {replace(cell, processes=3): 10.0 for cell in (alone, elsewhere)}
    assert [makespan(wide, {"gpu": gpus}, lambda _: "gpu") for gpus in (2, 5, 6)] == [20.0, 20.0, 10.0]


def test_the_command_plans_the_paper_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    more = ("--store", tmp_path / "runs", "--set", "studies=[]", "--only", "checkpoint/text/Books/*")
    answer = mmgrid("plan", GRIDS / "paper.toml", *more, "--device", "a100", "--devices", "4", "--memory")
    assert answer.code == 0, answer.err
    assert "text/Books/pretrain" in answer.out
    assert "No data here of Video_Games, Movies_and_TV" in answer.out
    assert "4 × a100" in answer.out
    assert "these are the costs on a100; --device cpu shows" in answer.out
    cells = {one["name"]: one for one in mmgrid("plan", GRIDS / "paper.toml", *more, "--json", "--memory").json}
    found = cells["checkpoint/text/Books/phase1"]
    assert found["memory"]["weights"] == pytest.approx(4 * 596_049_920, rel=0.01)
    assert found["memory"]["optimizer"] == 2 * found["memory"]["gradients"]
    assert found["memory"]["total"] < 24e9
    assert found["expected_bytes"] > 2e9
    assert found["seconds"] > 60
    refused = mmgrid("plan", GRIDS / "paper.toml", *more, "--device", "h1000")
    assert refused.err == "mmgrid: device 'h1000' is unknown; known are h200, h100, a100, l40s, rtx4090, a10, l4, cpu\n"
    assert "counts GPUs" in mmgrid("plan", GRIDS / "paper.toml", *more, "--device", "cpu", "--devices", "2").err
