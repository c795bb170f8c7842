"""The command `learn`."""

from pathlib import Path

import pytest
import torch
import yaml

from kits.learnable import Sources
from kits.tiny_grid import Built, bytes_below, mmgrid
from mmgrid.files import DiskFull
from mmgrid.learning import Learned
from mmgrid.learning.output import write_learned
from mmgrid.merging import MergeRecipe

FEW = ("--option", "number=12", "--option", "batch_size=6", "--option", "steps=2")


def _arguments(sources: Sources) -> list[object]:
    models = [part for name, path in sources.models.items() for part in ("--model", f"{name}={path}")]
    return [*models, "--base", sources.base]


def _data(sources: Sources) -> list[object]:
    return [part for name, path in sources.data.items() for part in ("--domain-dir", f"{name}={path}")]


def test_folders(trained: Sources, tmp_path: Path) -> None:
    out = tmp_path / "learned.yml"
    answer = mmgrid("learn", "mergerec", *_arguments(trained), *_data(trained), *FEW, "-o", out)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("mergerec on pseudo-users: garden 12, kitchen 12\nloss ")
    assert "all tensors" in answer.out
    recipe = yaml.safe_load(out.read_text())
    assert {one["name"] for one in recipe["sources"]} == {"garden", "kitchen"}
    assert mmgrid("merge", out, tmp_path / "merged").code == 0
    again = mmgrid("learn", "mergerec", out, *_data(trained), *FEW, "-o", tmp_path / "again.yml", "--json").json
    assert again["weights"]["*"] == {one["name"]: one["weight"] for one in recipe["sources"]}
    assert len(again["losses"]) == again["settings"]["steps"] == 2


def test_cells_of_a_grid(built: Built, tmp_path: Path) -> None:
    cells = [f"checkpoint/semb/{domain}/phase2" for domain in ("garden", "kitchen")]
    grid = ["--grid", built.file, "--store", built.root]
    models = [part for cell in cells for part in ("--model", cell)]
    answer = mmgrid("learn", "adamerging", *grid, *models, "--base", "base/semb", *FEW, "-o", tmp_path / "learned.yml")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("adamerging on histories: garden 12, kitchen 12\n")


def test_what_is_missing_is_named(trained: Sources, tmp_path: Path) -> None:
    out = ["-o", tmp_path / "learned.yml"]
    models = _arguments(trained)
    assert (
        "where are the data of garden? Give --domain-dir garden=FOLDER"
        in mmgrid("learn", "mergerec", *models, *out).err
    )
    unnamed = mmgrid("learn", "mergerec", "--model", trained.models["garden"], *out)
    assert f"give it a name: --model NAME={trained.models['garden']}" in unnamed.err
    wrong = mmgrid("learn", "mergerec", *models, "--domain-dir", "attic=x", *out)
    assert "attic=x: must be NAME=FOLDER with the name of a model (garden, kitchen)" in wrong.err
    assert "did you mean mergerec" in mmgrid("learn", "mergrec", *models, *_data(trained), *out).err
    assert "unknown setting 'stepps'" in mmgrid("learn", "mergerec", *models, "--option", "stepps=1", *out).err
    assert "its name ends with .yml" in mmgrid("learn", "mergerec", *models, "-o", tmp_path / "learned").err
    assert "there is no folder" in mmgrid("learn", "mergerec", *models, "-o", tmp_path / "no" / "learned.yml").err
    assert not (tmp_path / "learned.yml").exists()


def test_only_another_recipe_is_replaced(trained: Sources, tmp_path: Path) -> None:
    read, other = tmp_path / "read.yml", tmp_path / "package.json"
    sources = [{"name": name, "path": str(path), "weight": 0.5} for name, path in trained.models.items()]
    read.write_text(yaml.safe_dump({"method": "linear", "sources": sources}))
    other.write_text('{"name": "package"}')
    before = bytes_below(tmp_path)
    for out, said in ((read, "read.yml: is the file that is read"), (other, "exists already, and is no recipe")):
        answer = mmgrid("learn", "mergerec", read, *_data(trained), *FEW, "-o", out)
        assert answer.code == 1
        assert said in answer.err
    assert bytes_below(tmp_path) == before


def test_a_full_disk_leaves_nothing_of_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tuple({"name": name, "path": str(tmp_path / name)} for name in ("a", "b"))
    recipe = MergeRecipe.load({"method": "regmean", "sources": sources})
    statistics = {name: {"gram:x": torch.ones(2, 2)} for name in ("a", "b")}
    learned = Learned(recipe, statistics=statistics)
    file = tmp_path / "learned.yml"
    (tmp_path / "learned-a.gram.safetensors").write_bytes(b"older")

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(yaml, "safe_dump", full)
    with pytest.raises(DiskFull, match=r"learned\.yml: could not be written"):
        write_learned(learned, file)
    assert [path.name for path in tmp_path.iterdir()] == ["learned-a.gram.safetensors"]
    assert (tmp_path / "learned-a.gram.safetensors").read_bytes() == b"older"


@pytest.mark.parametrize("text", ["\x1b[2J", "[red]x"])
def test_names_are_only_text(text: str, trained: Sources, tmp_path: Path) -> None:
    models = [part for path in trained.models.values() for part in ("--model", f"{text}{path.name}={path}")]
    data = [part for name, path in trained.data.items() for part in ("--domain-dir", f"{text}{name}={path}")]
    answer = mmgrid("learn", "mergerec", *models, "--base", trained.base, *data, *FEW, "-o", tmp_path / "learned.yml")
    assert answer.code == 0, answer.err
    assert "\x1b" not in answer.out
    assert text.replace("\x1b", "\\x1b") in answer.out
