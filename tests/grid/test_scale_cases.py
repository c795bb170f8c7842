"""The cases of a built grid, and the command that compares predictors over several grids."""

import shutil
from pathlib import Path

import pytest

from kits.tiny_grid import Built, mmgrid, named
from mmgrid.data import Corpus
from mmgrid.data.statistics import mean_gap_days
from mmgrid.data.turnover import new_item_share, return_rate
from mmgrid.grid.file.load import GridError
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.grid.standing.scale_cases import scale_cases, swept_paradigms
from mmgrid.studies.checkpoint_steps import step_facts

DOMAINS = ["attic", "garden", "kitchen"]


def _best(built: Built, group: str) -> dict[str, float]:
    rows = mmgrid("results", built.file, "--store", built.root, "--study", "temporal", "--json").json["best"]
    return {row["domain"]: row["best"] for row in rows if row["group"] == group}


def test_cases_have_the_best_lambda_of_the_temporal_study_and_facts_from_before_the_test(studied: Built) -> None:
    grid = GridStore.open(studied.file, studied.root)
    assert swept_paradigms(grid) == ["semb"]
    cases = scale_cases(grid, "semb", "non_active")
    assert {case.domain: case.best.place for case in cases} == _best(studied, "non_active")
    calendar = studied.grid.spec.phases.calendar()
    for case in cases:
        assert case.window == "2023-01-01"
        corpus = Corpus.load(studied.folder(f"corpus/{case.domain}")).before(calendar.t2)
        phases = ("pretrain", "phase1", "phase2")
        folders = {phase: studied.folder(f"checkpoint/semb/{case.domain}/{phase}") for phase in phases}
        wanted = {
            "gap_days": mean_gap_days(corpus),
            "return_rate": return_rate(corpus, calendar.phase1, calendar.phase2),
            "new_items": new_item_share(corpus, calendar.phase2),
            **step_facts(folders, "semb"),
        }
        assert {name: case.facts[name] for name in wanted} == wanted
        assert None not in wanted.values()


def test_a_grid_without_a_study_of_lambda_is_refused(studied: Built) -> None:
    grid = GridStore.open(studied.file, studied.root)
    with pytest.raises(GridError, match="no study evaluates sasrec at several λ; it has one for semb"):
        scale_cases(grid, "sasrec", "all")
    with pytest.raises(GridError, match=r"add \[\[studies\]\] with kind = \"temporal\""):
        scale_cases(GridStore.open(studied.file, studied.root, ["studies=[]"]), "semb", "all")


def test_the_command_says_what_is_not_built(studied: Built, tmp_path: Path) -> None:
    here = studied.copy(tmp_path)
    cell = named(here.cells, "evaluation/semb/attic/temporal=0.5")
    here.store.remove(cell.address)
    answer = mmgrid("predictors", here.file, "--store", here.root)
    assert answer.code == 1
    assert "evaluation/semb/attic/temporal=0.5: is not built" in answer.err
    assert "mmgrid run" in answer.err


def test_the_command_compares_the_domains_of_one_grid(studied: Built) -> None:
    arguments = ("predictors", studied.file, "--store", studied.root)
    found = mmgrid(*arguments, "--json").json
    assert [row["domain"] for row in found["facts"]] == DOMAINS
    assert {row["domain"]: row["best"] for row in found["facts"]} == _best(studied, "all")
    assert [row["predictor"] for row in found["predictors"]] == ["one", "mean", "recency"]
    text = mmgrid(*arguments, environment={"COLUMNS": "200"}).out
    assert "semb, seed 0: 3 domains cannot order predictors; 6 are needed." in text
    assert mmgrid(*arguments, "--group", "none").code == 2


def test_the_command_takes_several_grids(studied: Built, tmp_path: Path) -> None:
    """The same cells under other names of domains, as if they were other domains; twice the same grid is refused."""
    answer = mmgrid("predictors", studied.file, studied.file, "--store", studied.root)
    assert answer.code == 1
    assert "attic (2023-01-01), garden (2023-01-01), kitchen (2023-01-01): given twice" in answer.err
    one = tmp_path / "one.toml"
    shutil.copy(studied.file, one)
    for domain in ("attic", "garden"):
        other = one.read_text().replace("[[studies]]", f'[[studies]]\ndomains = ["{domain}"]')
        other = "\n".join(line for line in other.splitlines() if not line.startswith("pairs"))
        (tmp_path / f"{domain}.toml").write_text(_only_temporal(other))
    files = [tmp_path / "attic.toml", tmp_path / "garden.toml"]
    found = mmgrid("predictors", *files, "--store", studied.root, "--json").json
    assert [row["domain"] for row in found["facts"]] == ["attic", "garden"]
    mean = {row["domain"]: row["predicted"] for row in found["predictions"] if row["predictor"] == "mean"}
    best = {row["domain"]: row["best"] for row in found["facts"]}
    assert mean == {"attic": best["garden"], "garden": best["attic"]}


def _only_temporal(text: str) -> str:
    start, *studies = text.split("[[studies]]")
    return start + "".join(f"[[studies]]{study}" for study in studies if '"temporal"' in study)
