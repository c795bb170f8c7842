"""The example distribution, installed next to MMGRid: its paradigm, study and merge method work like built-in ones.

Everything runs in processes of its own, which find the distribution on their PYTHONPATH.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from example_tests import GRID

from kits.tiny_grid import Answer

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
WITH_SASREC = GRID.replace(
    "[paradigms.transitions]",
    "[paradigms.sasrec]\nepochs = 1\nhidden_size = 16\nlayers = 1\n\n[paradigms.transitions]\nwidth = 8",
)
DRIVER = """
import json, sys
from dataclasses import asdict
from kits.tiny_grid import mmgrid

if __name__ == "__main__":
    print(json.dumps([asdict(mmgrid(*command)) for command in json.loads(sys.argv[1])]))
"""


@dataclass(frozen=True)
class Place:
    """A folder with a grid file, and other folders from which Python imports."""

    folder: Path
    sites: tuple[Path, ...]

    def python(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(map(str, (*self.sites, HERE.parent)))
        words = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            words, cwd=self.folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )

    def commands(self, *commands: Sequence[object]) -> list[Answer]:
        """The answers of several commands, which share one process: starting one takes seconds."""
        (self.folder / "driver.py").write_text(DRIVER)
        done = self.python("driver.py", json.dumps([[str(word) for word in command] for command in commands]))
        assert done.returncode == 0, done.stderr
        return [Answer(**answer) for answer in json.loads(done.stdout)]

    def cell(self, name: str) -> Path:
        """The folder of a built cell."""
        (found,) = (self.folder / "runs" / name).iterdir()
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example distribution is installed."""
    source, site = tmp_path_factory.mktemp("source") / "example", tmp_path_factory.mktemp("site")
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("__pycache__", "*_tests.py", "test_*"))
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    words = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", site, source]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture(scope="module")
def built(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Answer]]:
    """A grid with all three plug-ins and a built-in paradigm, and what the commands on it answered."""
    place = Place(tmp_path_factory.mktemp("grid"), (site,))
    (place.folder / "grid.toml").write_text(WITH_SASREC)
    commands = {
        "plan": ("plan", "grid.toml", "--json"),
        "run": ("run", "grid.toml", "--jobs", "1"),
        "results": ("results", "grid.toml", "--json"),
        "study": ("results", "grid.toml", "--study", "phase_merge", "--json"),
        "study as text": ("results", "grid.toml", "--study", "phase_merge"),
        "another metric": ("results", "grid.toml", "--study", "phase_merge", "--metric", "mrr"),
        "report": ("report", "grid.toml", "--out", "report.html"),
        "methods": ("methods", "--json"),
        "method": ("methods", "magmax"),
    }
    answers = dict(zip(commands, place.commands(*commands.values()), strict=True))
    for name, answer in answers.items():
        assert answer.code == 0, (name, answer.err)
    return place, answers


BROKEN = """\
[mmgrid.paradigms]
broken = mmgrid_broken:BROKEN
[mmgrid.studies]
broken = mmgrid_broken:BROKEN
[mmgrid.merge_methods]
broken = mmgrid_broken:BROKEN
"""
PLANNED = {
    "fine": (WITH_SASREC, ""),
    "broken paradigm": (WITH_SASREC + "[paradigms.broken]\n", "the paradigm 'broken' of mmgrid-broken"),
    "broken study": (WITH_SASREC + '[[studies]]\nkind = "broken"\n', "the study 'broken' of mmgrid-broken"),
    "broken method": (WITH_SASREC + 'method = "broken"\n', "the merge method 'broken' of mmgrid-broken"),
    "unknown paradigm": (WITH_SASREC + "[paradigms.transition]\n", "did you mean transitions? known are text, semid"),
    "unknown study": (WITH_SASREC.replace('"phase_merge"', '"phases_merge"'), "did you mean 'phase_merge'?"),
    "unknown method": (WITH_SASREC + 'method = "magmix"\n', "'magmix'; did you mean magmax?"),
    "unknown value": (WITH_SASREC.replace("width = 8", "wide = 8"), "paradigms.transitions.wide: unknown key"),
}
"""Grid file → its text, and what `mmgrid plan` says of it."""


@pytest.fixture(scope="module")
def next_to_broken(
    built: tuple[Place, dict[str, Answer]], site: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Answer]:
    """What commands answer while a package is installed that cannot be imported."""
    broken = tmp_path_factory.mktemp("broken")
    info = broken / "mmgrid_broken-1.0.dist-info"
    info.mkdir()
    (broken / "mmgrid_broken.py").write_text("import nowhere_at_all\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmgrid-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(BROKEN)
    place = Place(tmp_path_factory.mktemp("plans"), (site, broken))
    for name, (text, _) in PLANNED.items():
        (place.folder / f"{name}.toml").write_text(text)
    model, corpus = (built[0].cell(name) for name in ("checkpoint/sasrec/garden/phase2", "corpus/garden"))
    commands = {name: ("plan", f"{name}.toml") for name in PLANNED}
    commands |= {"methods": ("methods",), "evaluate": ("evaluate", model, "--domain-dir", corpus)}
    return dict(zip(commands, place.commands(*commands.values()), strict=True))


def test_a_plan_has_the_cells_of_the_plug_ins(built: tuple[Place, dict[str, Answer]]) -> None:
    out = built[1]["plan"].out
    for name in (
        "checkpoint/transitions/garden/phase2",
        "evaluation/transitions/garden/magmax-of-phases",
        "evaluation/sasrec/garden/magmax-of-phases",
        "study/phase_merge/transitions",
        "study/phase_merge/sasrec",
    ):
        assert f'"{name}"' in out


def test_results_list_the_paradigm_and_its_merges(built: tuple[Place, dict[str, Answer]]) -> None:
    rows = pl.DataFrame(built[1]["results"].json, infer_schema_length=None)
    assert {"transitions", "sasrec"} <= set(rows["paradigm"])
    merges = rows.filter(model="magmax-of-phases")
    assert set(merges["merge"]) == {"magmax"}


def test_the_study_answers_for_both_paradigms(built: tuple[Place, dict[str, Answer]]) -> None:
    tables: dict[str, list[dict[str, Any]]] = built[1]["study"].json
    assert {row["paradigm"] for row in tables["merges"]} == {"transitions", "sasrec"}
    assert {row["verdict"] for row in tables["findings"]} <= {"reproduced", "not reproduced", "undecided"}
    assert len(tables["findings"]) == len(tables["merges"]) == 4  # of two paradigms and two metrics


def test_a_study_shows_the_metrics_that_it_has(built: tuple[Place, dict[str, Answer]]) -> None:
    assert "no rows" not in built[1]["study as text"].out
    assert "phase_merge: merges: no rows of mrr; it has ndcg@10, recall@10" in built[1]["another metric"].out


def test_the_report_shows_the_study(built: tuple[Place, dict[str, Answer]]) -> None:
    page = (built[0].folder / "report.html").read_text()
    assert "Merging the phases of a domain" in page
    assert "transitions" in page
    assert "The merge of the phases minus the newest checkpoint" in page


def test_methods_lists_the_method(built: tuple[Place, dict[str, Answer]]) -> None:
    assert "magmax" in {row["method"] for row in built[1]["methods"].json}
    assert "Δ = wₖ τₖ" in built[1]["method"].out


def test_single_folders_give_the_figures_of_the_grid(built: tuple[Place, dict[str, Answer]]) -> None:
    place, _ = built
    first, second, newest = (
        place.cell(f"checkpoint/transitions/garden/{phase}") for phase in ("pretrain", "phase1", "phase2")
    )
    corpus = place.cell("corpus/garden")
    item = pl.read_parquet(corpus / "items.parquet")["item_id"][0]
    sources = ("--model", f"phase1={second}", "--model", f"phase2={newest}", "--base", first)
    merged, single, merge, recommended = place.commands(
        ("merge", "--method", "magmax", *sources, "-o", "merged"),
        ("evaluate", newest, "--domain-dir", corpus, "--json"),
        ("evaluate", "merged", "--domain-dir", corpus, "--json"),
        ("recommend", newest, "--domain-dir", corpus, "--history", item, "--json"),
    )
    assert merged.code == recommended.code == 0, merged.err + recommended.err
    assert len(recommended.json["items"]) == 10
    for answer, model in ((single, "phase2"), (merge, "magmax-of-phases")):
        assert answer.code == 0, answer.err
        of_grid = pl.read_parquet(place.cell(f"evaluation/transitions/garden/{model}") / "rows.parquet")
        found = pl.DataFrame(answer.json, infer_schema_length=None)
        for name in ("paradigm", "domain", "group", "metric", "value", "low", "high", "n_users"):
            assert found[name].to_list() == of_grid[name].to_list(), name


def test_the_plug_ins_pass_the_kits(site: Path, tmp_path: Path) -> None:
    shutil.copy(HERE / "example_tests.py", tmp_path)
    options = ("-q", "-c", HERE.parent.parent / "pyproject.toml", "--rootdir", tmp_path, "-p", "no:cacheprovider")
    done = Place(tmp_path, (site,)).python("-m", "pytest", *options, "example_tests.py")
    assert done.returncode == 0, done.stdout


def test_a_broken_plug_in_is_in_nobodys_way(next_to_broken: dict[str, Answer]) -> None:
    for name in ("fine", "methods", "evaluate"):
        assert next_to_broken[name].code == 0, next_to_broken[name].err
    assert "magmax" in next_to_broken["methods"].out


@pytest.mark.parametrize("name", [name for name in PLANNED if name != "fine"])
def test_an_error_names_the_file_and_what_may_be_meant(next_to_broken: dict[str, Answer], name: str) -> None:
    answer = next_to_broken[name]
    assert answer.code == 1
    assert PLANNED[name][1] in answer.err
    if name.startswith("unknown"):
        assert f"{name}.toml" in answer.err
    else:
        assert "(mmgrid_broken:BROKEN) cannot be used: ModuleNotFoundError" in answer.err
