"""What `import mmgrid` offers: cheap to import, never hidden by a submodule, and usable from a script."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import mmgrid
from kits.small import child_environment
from kits.tiny_grid import BASELINES, Built, write_grid, write_raw_grid
from mmgrid.data import Corpus
from mmgrid.evaluation import RESULTS_SCHEMA
from mmgrid.face import RunFailedError
from mmgrid.grid.file.load import GridError
from mmgrid.merging import METHODS

pytestmark = pytest.mark.slow

CHECKPOINT = "checkpoint/semb/garden/phase2"


def in_a_process(*arguments: object, where: Path) -> str:
    """Runs Python in a new process with `where` as its working directory; returns its output."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=where, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_is_cheap(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "numpy", "polars", "pydantic", "typing")
    code = f"import sys, mmgrid\nprint(mmgrid.__version__, [name for name in {heavy} if name in sys.modules])"
    assert in_a_process("-c", code, where=tmp_path).split(maxsplit=1) == [mmgrid.__version__, "[]\n"]


def test_all_names_are_listed_and_have_docstrings() -> None:
    assert set(mmgrid.__all__) <= set(dir(mmgrid))
    for name in mmgrid.__all__:
        assert getattr(mmgrid, name).__name__ == name
        assert getattr(mmgrid, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'merges'"):
        mmgrid.merges  # type: ignore[attr-defined]  # noqa: B018


def test_no_submodule_hides_a_name(built: Built, tmp_path: Path) -> None:
    """Imports all submodules, then calls every function twice."""
    code = """
import importlib, pkgutil, sys
import mmgrid
for module in pkgutil.walk_packages(mmgrid.__path__, "mmgrid."):
    importlib.import_module(module.name)
import torch

file, store = sys.argv[1:]
grid = mmgrid.load_grid(file)
folders = [mmgrid.cell_folder(grid, f"checkpoint/semb/garden/{phase}", store=store) for phase in ("phase1", "phase2")]
states = [{"weight": torch.ones(2)}, {"weight": torch.zeros(2)}]
sources = [{"path": str(folder)} for folder in folders]
def refused(call, *arguments):
    try:
        call(*arguments)
    except ValueError as error:
        assert "HF_HUB_OFFLINE" in str(error), error


calls = {
    "cell_folder": lambda: mmgrid.cell_folder(grid, "corpus/garden", store=store),
    "compare": lambda: mmgrid.compare(*folders),
    "export_checkpoint": lambda: mmgrid.export_checkpoint(folders[0], f"theirs-{turn}", "hllm"),
    "import_checkpoint": lambda: mmgrid.import_checkpoint(f"theirs-{turn}", f"ours-{turn}", "hllm"),
    "load_grid": lambda: mmgrid.load_grid(file),
    "merge": lambda: mmgrid.merge({"method": "linear", "sources": sources}, f"merged-{turn}"),
    "merge_state_dicts": lambda: mmgrid.merge_state_dicts("linear", states),
    "methods": lambda: mmgrid.methods(),
    "open_checkpoint": lambda: mmgrid.open_checkpoint(folders[0]),
    "pull": lambda: refused(mmgrid.pull, "some/model"),
    "push": lambda: refused(mmgrid.push, folders[0], "some/model"),
    "report": lambda: mmgrid.report(grid, store=store),
    "results": lambda: mmgrid.results(grid, store=store),
    "run": lambda: mmgrid.run(grid, store=store),
}
assert set(calls) == set(mmgrid.__all__)
for turn in range(2):
    for call in calls.values():
        call()
"""
    copy = built.copy(tmp_path)
    in_a_process("-c", code, copy.file, copy.root, where=tmp_path)
    assert (tmp_path / "tiny.html").read_bytes().startswith(b"<!doctype html>")
    assert "`mmgrid_semb`" in (tmp_path / "merged-1" / "README.md").read_text()


def test_a_script_builds_a_grid(tmp_path: Path) -> None:
    write_grid(tmp_path)
    script = tmp_path / "build.py"
    script.write_text(
        f"""
import mmgrid

if __name__ == "__main__":
    grid = mmgrid.load_grid("tiny.toml", {{"data.synthetic.users": 160}})
    for turn in range(2):
        outcome = mmgrid.run(grid, only=["{BASELINES}"], jobs=2)
        print(len(outcome.built), len(outcome.present))
    print(sorted(set(mmgrid.results(grid)["model"])))
"""
    )
    lines = in_a_process(script, where=tmp_path).splitlines()
    assert lines == ["6 0", "0 6", "['popularity', 'random']"]
    assert (tmp_path / "runs" / "store.json").is_file()


def test_failed_cells_raise_an_error_that_names_them(tmp_path: Path) -> None:
    grid = mmgrid.load_grid(str(write_raw_grid(tmp_path)))
    (damaged, *_) = sorted(path for path in (tmp_path / "raw").rglob("*garden*") if path.is_file())
    damaged.write_bytes(b"")
    events = []
    with pytest.raises(RunFailedError, match=r"(?s)1 cells failed, and 2 .*\n  corpus/garden: ") as raised:
        mmgrid.run(grid, store=str(tmp_path / "runs"), only=BASELINES, jobs=1, watch=events.append)
    assert {event.cell for event in events if event.state == "failed"} == {"corpus/garden"}
    assert "evaluation/baseline/kitchen/random" in raised.value.outcome.built
    outcome = mmgrid.run(grid, store=tmp_path / "runs", only=BASELINES, jobs=1, check=False)
    assert list(outcome.failed) == ["corpus/garden"]
    assert len(outcome.blocked) == 2
    assert not outcome.built


def test_settings_are_values_or_texts(tmp_path: Path) -> None:
    file, root = write_raw_grid(tmp_path), tmp_path / "other"
    grid = mmgrid.load_grid(str(file), {"evaluation.max_users": 50, "data.domains": ["garden"], "data.root": root})
    texts = ["evaluation.max_users=50", 'data.domains=["garden"]', f"data.root={root}"]
    assert grid == mmgrid.load_grid(file, texts)
    assert grid.spec.evaluation.max_users == 50
    with pytest.raises(GridError, match=r"evaluation.max_user: unknown key; did you mean max_users\?"):
        mmgrid.load_grid(file, {"evaluation.max_user": 50})
    with pytest.raises(GridError, match="name is not a table"):
        mmgrid.load_grid(file, {"name.first": 1})


def test_results_of_a_grid_and_of_a_study(copied: Built) -> None:
    everything = mmgrid.results(copied.file, store=copied.root)
    assert everything.schema == RESULTS_SCHEMA
    assert {"semb", "sasrec", "baseline"} == set(everything["paradigm"])
    grid = mmgrid.load_grid(copied.file, {"studies": [{"kind": "baselines"}]})
    with pytest.raises(GridError, match="the study baselines is not built"):
        mmgrid.results(grid, "baselines", store=copied.root)
    mmgrid.run(grid, store=copied.root, only="study/baselines/*")
    tables = mmgrid.results(grid, "baselines", store=copied.root)
    assert all(isinstance(table, pl.DataFrame) for table in tables.values())
    assert all(len(table) for name, table in tables.items() if name != "findings")
    assert_frame_equal(mmgrid.results(grid, store=copied.root), everything, check_row_order=False)
    with pytest.raises(GridError, match="the study temporal is not in the grid"):
        mmgrid.results(grid, "temporal", store=copied.root)
    with pytest.raises(GridError, match="did you mean temporal"):
        mmgrid.results(grid, "temporl", store=copied.root)


def test_a_checkpoint_recommends_by_its_folder_and_by_the_name_of_its_cell(built: Built) -> None:
    domain = mmgrid.cell_folder(built.file, "corpus/garden", store=str(built.root))
    corpus = Corpus.load(domain)
    history = corpus.catalogue.ids.tolist()[:2]
    folder = mmgrid.cell_folder(built.grid, CHECKPOINT, store=built.root)
    by_name = mmgrid.open_checkpoint(CHECKPOINT, grid=built.grid, store=built.root)
    for checkpoint in (mmgrid.open_checkpoint(str(folder)), mmgrid.open_checkpoint(folder), by_name):
        (best,) = checkpoint.recommend([history], str(domain), k=3)
        assert [one.item_id for one in best] == [one.item_id for one in by_name.recommend([history], corpus, k=3)[0]]
        assert not {one.item_id for one in best} & set(history)
    expected = mmgrid.results(built.grid, store=built.root).filter(paradigm="semb", domain="garden", model="phase2")
    found = by_name.evaluate(domain).rows
    np.testing.assert_array_equal(found["value"].to_numpy(), expected["value"].to_numpy())
    with pytest.raises(GridError, match="the grid has no such cell"):
        mmgrid.open_checkpoint("checkpoint/semb/garden/phase3", grid=built.grid, store=built.root)


def test_a_report_of_files_and_figures(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.file.parent)
    out = mmgrid.report(str(built.file), str(tmp_path / "page.html"), store=str(built.root), figures=tmp_path / "plots")
    assert out == tmp_path / "page.html"
    assert "mmgrid report tiny.toml" in out.read_text()
    assert list((tmp_path / "plots").glob("*.svg"))


def test_methods_have_formulas() -> None:
    assert list(mmgrid.methods()) == list(METHODS)
    assert mmgrid.methods()["linear"].startswith("θ = Σ wᵢ θᵢ")
