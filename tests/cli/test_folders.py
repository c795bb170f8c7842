"""Commands take the name of a cell, with --grid, wherever they take a folder."""

import shutil
from pathlib import Path

import pytest

from kits.tiny_grid import Built, mmgrid

NEWEST, OLDER = "checkpoint/semb/garden/phase2", "checkpoint/semb/garden/phase1"


@pytest.fixture
def names(built: Built) -> tuple[object, ...]:
    return ("--grid", built.file, "--store", built.root)


def test_models_are_compared_and_merged_by_name(built: Built, names: tuple[object, ...], tmp_path: Path) -> None:
    folders = {name: built.folder(name) for name in (NEWEST, OLDER, "base/semb")}
    by_name = mmgrid("diff", NEWEST, OLDER, "--base", "base/semb", *names, "--json").json
    by_folder = mmgrid("diff", folders[NEWEST], folders[OLDER], "--base", folders["base/semb"], "--json").json
    assert by_name["models"] == [NEWEST, OLDER]
    assert by_name["whole"][0]["cosine"] == by_folder["whole"][0]["cosine"]
    out = tmp_path / "merged"
    models = ("--model", f"new={NEWEST}:0.75", "--model", f"{OLDER}:0.25")
    answer = mmgrid("merge", "--method", "linear", *models, "-o", out, *names)
    assert answer.code == 0, answer.err
    assert mmgrid("merge", "--verify", out).code == 0
    shutil.rmtree(out)


def test_data_and_checkpoints_by_name(built: Built, names: tuple[object, ...]) -> None:
    arguments = ("checkpoint/sasrec/garden/phase2", "--domain-dir", "corpus/garden", *names)
    assert mmgrid("evaluate", *arguments, "--json").json


def test_wrong_names_are_one_line(built: Built, names: tuple[object, ...]) -> None:
    for arguments, says in (
        (("diff", NEWEST, OLDER), f"{NEWEST}: no such folder; for a cell, name its grid with --grid GRID"),
        (("evaluate", NEWEST, "--domain-dir", "x"), f"{NEWEST}: no such folder; for a cell, name its grid with --grid"),
        (("diff", NEWEST, "checkpoint/semb/gardne/phase1", *names), f"such cell; did you mean {OLDER}"),
        (("merge", "--method", "linear", "--model", f"{NEWEST}x", "-o", "out", *names), f"did you mean {NEWEST}"),
    ):
        answer = mmgrid(*arguments)
        assert (answer.code, answer.out) == (1, "")
        assert says in answer.err
        assert answer.err.count("\n") == 1
