"""`mmgrid evaluate FOLDER` gives the results of the grid, for every paradigm and a merge of each."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from kits.tiny_grid import SPOKEN, TEXT, Built, mmgrid, named, write_grid
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.recommender import Recommender
from mmgrid.runners import run_local

pytestmark = pytest.mark.slow

# Every paradigm, few users, and one merge of each that has a base; text asks for popularity, too.
GRID = (
    SPOKEN[: SPOKEN.index("[[studies]]")]
    .replace("titles = 2\n", "titles = 2\npopularity_gamma = 0.5\n")
    .replace("max_users = 12\n", "max_users_of = { text = 12, semid = 12 }\n")
    + TEXT[TEXT.index("[paradigms.semb]") : TEXT.index("[[merges]]")]
    + '[[merges]]\nkind = "cross_domain"\nkeep = true\n'
)
PARADIGMS = ("text", "semid", "semb", "sasrec")
MERGED = ("text", "semid", "semb")
FIGURES = ("group", "metric", "value", "low", "high", "n_users")


@pytest.fixture(scope="module")
def grid(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built.grown(tmp_path_factory.mktemp("figures"), GRID)


def _evaluated(*words: object) -> list[dict]:
    answer = mmgrid("evaluate", *words, "--json")
    assert answer.code == 0, answer.err
    return [{name: row[name] for name in FIGURES} for row in answer.json]


def _of_the_grid(grid: Built, name: str) -> list[dict]:
    rows = pl.read_parquet(grid.folder(name) / "rows.parquet").select(FIGURES)
    return [{name: None if value != value else value for name, value in row.items()} for row in rows.to_dicts()]


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_checkpoint_has_the_grids_figures(grid: Built, paradigm: str) -> None:
    name = f"checkpoint/{paradigm}/garden/phase2"
    expected = _of_the_grid(grid, f"evaluation/{paradigm}/garden/phase2")
    assert _evaluated(grid.folder(name), "--domain-dir", grid.folder("corpus/garden")) == expected
    assert _evaluated(name, "--grid", grid.file, "--store", grid.root) == expected


@pytest.mark.parametrize("domain", ["garden", "kitchen"])
@pytest.mark.parametrize("paradigm", MERGED)
def test_a_merge_has_the_grids_figures_on_each_of_its_domains(grid: Built, paradigm: str, domain: str) -> None:
    name = f"merge/{paradigm}/linear=garden+kitchen"
    expected = _of_the_grid(grid, f"evaluation/{paradigm}/{domain}/linear=garden+kitchen")
    assert _evaluated(grid.folder(name), "--domain-dir", grid.folder(f"corpus/{domain}")) == expected
    assert _evaluated(name, "--grid", grid.file, "--store", grid.root, "--domain", domain) == expected


@pytest.mark.parametrize("paradigm", MERGED)
def test_a_stored_merge_is_ranked_like_one_in_memory(grid: Built, tmp_path: Path, paradigm: str) -> None:
    other = grid.copy(tmp_path)
    write_grid(other.file.parent, GRID.replace("keep = true\n", f'paradigms = ["{paradigm}"]\n'))
    name = f"evaluation/{paradigm}/kitchen/linear=garden+kitchen"
    cell = named(other.cells, name)
    assert run_local(other.cells, other.grid, other.store, jobs=1).complete
    expected = pl.read_parquet(grid.folder(name) / "ranks.parquet")
    assert pl.read_parquet(other.store.folder(cell.address) / "ranks.parquet").equals(expected)


def test_a_merge_across_time_is_evaluated_by_its_folder(grid: Built, tmp_path: Path) -> None:
    """SASRec has no base to merge domains over; its phases can be merged."""
    phases = [
        f"{phase}={grid.folder(f'checkpoint/sasrec/garden/{phase}')}:{w}" for phase, w in (("phase1", 0), ("phase2", 1))
    ]
    models = [word for phase in phases for word in ("--model", phase)]
    answer = mmgrid("merge", "--method", "linear", *models, "-o", tmp_path / "merged")
    assert answer.code == 0, answer.err
    found = _evaluated(tmp_path / "merged", "--domain-dir", grid.folder("corpus/garden"))
    assert found == _of_the_grid(grid, "evaluation/sasrec/garden/phase2")


def test_a_merge_from_the_command_line_serves_both_of_its_domains(grid: Built, tmp_path: Path) -> None:
    models = [f"{domain}={grid.folder(f'checkpoint/semid/{domain}/phase2')}" for domain in ("garden", "kitchen")]
    answer = mmgrid(
        "merge", "--method", "linear", "--model", models[0], "--model", models[1], "-o", tmp_path / "merged"
    )
    assert answer.code == 0, answer.err
    for domain in ("garden", "kitchen"):
        found = _evaluated(tmp_path / "merged", "--domain-dir", grid.folder(f"corpus/{domain}"))
        assert found == _of_the_grid(grid, f"evaluation/semid/{domain}/linear=garden+kitchen")


def test_codes_of_other_rows_are_refused(grid: Built, tmp_path: Path) -> None:
    shutil.copytree(grid.folder("checkpoint/semid/garden/phase2"), tmp_path / "mixed")
    shutil.copy(grid.folder("checkpoint/semid/kitchen/phase2") / "codes.safetensors", tmp_path / "mixed")
    answer = mmgrid("evaluate", tmp_path / "mixed", "--domain-dir", grid.folder("corpus/garden"))
    assert answer.code == 1
    assert "codes.safetensors: these codes belong to other token rows" in answer.err


def test_a_merge_needs_the_choice_of_a_domain(grid: Built) -> None:
    merged = grid.folder("merge/semid/linear=garden+kitchen")
    with pytest.raises(CheckpointError, match="holds no codes of attic, only of garden and kitchen"):
        Recommender(merged).evaluate(grid.folder("corpus/garden"), part="attic")
    answer = mmgrid("evaluate", "merge/semid/linear=garden+kitchen", "--grid", grid.file, "--store", grid.root)
    assert answer.code != 0
    assert "is a merge of garden and kitchen; choose one" in " ".join(answer.err.split())


def test_the_tokenizer_prints_codes(grid: Built) -> None:
    from transformers import AutoTokenizer

    folder = grid.folder("merge/semid/linear=garden+kitchen")
    rows = json.loads((folder / "mmgrid.json").read_text())["blocks"]["rows"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for entry in rows[1:]:
        names = tokenizer.convert_ids_to_tokens(list(range(entry["start"], entry["stop"])))
        assert names == entry["tokens"]
        assert names[0].startswith(f"<{entry['domain']}/")
        assert tokenizer("".join(names[:3]), add_special_tokens=False)["input_ids"] == [
            entry["start"] + i for i in range(3)
        ]


def test_a_text_checkpoint_without_its_backbone_is_reported(grid: Built, tmp_path: Path, caplog) -> None:
    shutil.copytree(grid.folder("checkpoint/text/garden/phase2"), tmp_path / "alone")
    Recommender(tmp_path / "alone").evaluate(grid.folder("corpus/garden"))
    assert "embeds titles itself" in caplog.text
    expected = _of_the_grid(grid, "evaluation/text/garden/phase2")
    backbone = grid.folder("backbone/tiny")
    assert (
        _evaluated(tmp_path / "alone", "--domain-dir", grid.folder("corpus/garden"), "--embedder", backbone) == expected
    )
