"""A store that was built before paradigms and studies became plug-ins: its cells, figures and checkpoints still count."""

import tarfile
from pathlib import Path

import polars as pl
import pytest

from kits.tiny_grid import Built, mmgrid, named

ARCHIVE = Path(__file__).parents[1] / "stores" / "before_plugins.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    file = folder / "old.toml"
    pinned = file.read_text().replace("[paradigms.semb]\n", "[paradigms.semb]\nleast_steps = 0\n")
    file.write_text(pinned)  # the default of the store's version
    return Built(folder / "old.toml", folder / "runs")


def test_every_cell_but_those_of_studies_is_there(old: Built) -> None:
    """A study may raise its version; what it reads stays."""
    missing = [cell.name for cell in old.cells if cell.kind != "study" and not old.store.has(cell.address)]
    assert missing == []


def test_studies_are_answered_anew_from_the_old_evaluations(old: Built, tmp_path: Path) -> None:
    copy = old.copy(tmp_path)
    answer = mmgrid("run", copy.file, "--store", copy.root, "--json")
    assert answer.code == 0, answer.err
    assert all(name.startswith("study/") for name in answer.outcome["built"])


@pytest.mark.parametrize("paradigm", ["text", "semid", "semb", "sasrec"])
def test_an_old_checkpoint_has_its_old_figures(old: Built, paradigm: str) -> None:
    """By the grid file: old checkpoints do not declare how they are evaluated."""
    name = f"checkpoint/{paradigm}/garden/phase2"
    answer = mmgrid("evaluate", name, "--grid", old.file, "--store", old.root, "--json")
    assert answer.code == 0, answer.err
    rows = pl.read_parquet(old.folder(f"evaluation/{paradigm}/garden/phase2") / "rows.parquet")
    found = [(row["group"], row["metric"], row["value"]) for row in answer.json if row["value"] is not None]
    known = [(row["group"], row["metric"], row["value"]) for row in rows.to_dicts() if row["n_users"]]
    assert found == known


@pytest.mark.parametrize("paradigm", ["text", "semb"])
def test_an_old_merge_has_its_old_figures(old: Built, paradigm: str) -> None:
    name = "linear=garden+kitchen"
    cell = f"merge/{paradigm}/{name}"
    answer = mmgrid("evaluate", cell, "--grid", old.file, "--store", old.root, "--domain", "kitchen", "--json")
    assert answer.code == 0, answer.err
    rows = pl.read_parquet(old.folder(f"evaluation/{paradigm}/kitchen/{name}") / "rows.parquet")
    known = {(row["group"], row["metric"]): row["value"] for row in rows.to_dicts() if row["n_users"]}
    found = [((row["group"], row["metric"]), row["value"]) for row in answer.json if row["value"] is not None]
    assert dict(found) == known


def test_an_old_merge_is_evaluated_by_its_folder(old: Built) -> None:
    folder = old.folder("merge/semb/linear=garden+kitchen")
    answer = mmgrid("evaluate", folder, "--domain-dir", old.folder("corpus/kitchen"), "--json")
    assert answer.code == 0, answer.err
    rows = pl.read_parquet(old.folder("evaluation/semb/kitchen/linear=garden+kitchen") / "rows.parquet").to_dicts()
    assert answer.json[0]["value"] == rows[0]["value"]


def test_training_goes_on_from_an_old_checkpoint(old: Built, tmp_path: Path) -> None:
    copy = old.copy(tmp_path)
    name = "checkpoint/semid/garden/phase2"
    answer = mmgrid(
        "run",
        copy.file,
        "--store",
        copy.root,
        "--only",
        name,
        "--set",
        "paradigms.semid.epochs={pretrain=0.5, phase1=0.5, phase2=0.6}",
        "--json",
    )
    assert answer.code == 0, answer.err
    assert answer.outcome["built"] == [name]
    assert named(copy.cells, "checkpoint/semid/garden/phase1").fingerprint
