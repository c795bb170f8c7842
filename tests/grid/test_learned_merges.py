"""Merges of a grid whose weights or statistics are learned in a cell of their own."""

import json
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

from kits.tiny_grid import Built
from mmgrid.grid.builders.learned import VALUES_FILE
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import GridError
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.merging.verify import verify
from mmgrid.runners import run_local

FEW = "number = 8"
MERGES = f"""
[[merges]]
name      = "by_weights"
learn     = {{ by = "mergerec", per = "layer", steps = 2, learning_rate = 0.05, batch_size = 8, {FEW} }}
paradigms = ["semb"]
keep      = true

[[merges]]
name      = "by_inputs"
learn     = {{ by = "regmean", {FEW} }}
paradigms = ["semb"]
"""


def _with(built: Built, text: str) -> GridStore:
    built.file.write_text(built.file.read_text() + text)
    return GridStore.open(built.file, built.root)


def _named(session: GridStore, name: str) -> Cell:
    return next(cell for cell in session.cells if cell.name == name)


def test_a_learned_merge_is_learned_once_and_evaluated(copied: Built) -> None:
    session = _with(copied, MERGES)
    wanted = [cell for cell in session.cells if "by_" in cell.name]
    assert {cell.name for cell in wanted} == {
        "learned/semb/by_weights",
        "learned/semb/by_inputs",
        "merge/semb/by_weights",
        *(f"evaluation/semb/{domain}/by_{how}" for domain in ("garden", "kitchen") for how in ("weights", "inputs")),
    }
    outcome = run_local(with_upstream(wanted), session.grid, session.store)
    assert outcome.complete, outcome.failed
    learned = session.store.folder(_named(session, "learned/semb/by_weights").address)
    values = json.loads((learned / VALUES_FILE).read_text())
    assert values["method"] == "task_arithmetic"
    assert {rule["method"] for rule in values["rules"]} == {"task_arithmetic"}
    assert len(values["rules"]) > 1
    merged = session.store.folder(_named(session, "merge/semb/by_weights").address)
    recipe = json.loads((merged / "mmgrid.json").read_text())["recipe"]
    assert [rule["weights"] for rule in recipe["rules"]] == [rule["weights"] for rule in values["rules"]]
    assert verify(merged).equal
    folder = session.store.folder(_named(session, "learned/semb/by_inputs").address)
    assert {path.name for path in Path(folder).glob("*.safetensors")} == {
        "garden.gram.safetensors",
        "kitchen.gram.safetensors",
    }
    assert all(name.startswith("gram:") for name in load_file(folder / "garden.gram.safetensors"))
    ranks = [
        pl.read_parquet(
            session.store.folder(_named(session, f"evaluation/semb/garden/{name}").address) / "ranks.parquet"
        )
        for name in ("by_weights", "by_inputs", "linear=garden+kitchen")
    ]
    assert not ranks[0].equals(ranks[1])
    assert not ranks[1].equals(ranks[2]), "regmean is not the average"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('learn = { per = "layer" }', r"learn: .*needs a learner: learn = \{ by = \"mergerec\" \}"),
        ('learn = { by = "mergrec" }', "merges.*shared.*learn: unknown learner 'mergrec'; did you mean mergerec"),
        ('learn = { by = "mergerec", step = 3 }', "learn: mergerec: unknown setting 'step'; did you mean steps"),
        (
            'learn = { by = "fisher", per = "layer" }',
            "learn: fisher: has no per, as it takes no steps; known: users, number",
        ),
        ('learn = { by = "mergerec", bounds = [1, 0] }', "learn: mergerec: bounds: should be two finite numbers"),
        ('learn = { by = "mergerec" }\nscale = 0.5', "learn: scale: a learned merge has its own"),
        ('learn = { by = "mergerec" }\ntowers = { item = "own" }', "learn: rules, towers and layers"),
        (
            'learn = { by = "mergerec" }\nmethod = "ties"',
            "learn: mergerec learns the weights of task_arithmetic or linear",
        ),
    ],
)
def test_what_cannot_be_learned_is_named(entry: str, message: str, copied: Built) -> None:
    with pytest.raises(GridError, match=message):
        _ = _with(copied, f'\n[[merges]]\nname = "shared"\nparadigms = ["semb"]\n{entry}\n').cells
