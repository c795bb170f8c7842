"""`merge --family`, `expand`, `compress`."""

import json
from pathlib import Path

import numpy as np
import pytest

from kits.arrays import bytes_of, values_of, write_model
from kits.tiny_grid import mmgrid
from kits.tiny_llama import tiny_llama
from mmgrid.families import build, compress, state_dict
from mmgrid.merging import MergeError, merge


@pytest.fixture
def place(tmp_path: Path) -> Path:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for number, name in enumerate(("garden", "kitchen"), 1):
        tiny_llama(tmp_path / name, number, layers=1, near=base)
    (tmp_path / "recipe.yml").write_text(
        """\
base: base
sources:
  - path: garden
  - path: kitchen
family:
  part: {kind: delta, bits: 3}
  rules:
    - {tensors: "*mlp*", part: exact}
"""
    )
    return tmp_path


def test_a_family_by_a_recipe_and_a_checkpoint_from_it(place: Path) -> None:
    answer = mmgrid("merge", "--family", place / "recipe.yml", place / "family")
    assert answer.code == 0, answer.err
    assert "delta, 3 bits" in answer.out
    assert "plain checkpoints" in answer.out
    answer = mmgrid("expand", place / "family", "--domain", "garden", "-o", place / "out")
    assert answer.code == 0, answer.err
    assert "garden" in answer.out
    assert "of the change" in answer.out
    found, before = bytes_of(place / "out"), bytes_of(place / "garden")
    assert {name for name in found if found[name] == before[name]} == {
        name for name in found if "mlp" in name or "norm" in name
    }


def test_json_has_the_figures(place: Path) -> None:
    facts = mmgrid("merge", "--family", place / "recipe.yml", "-o", place / "family", "--json").json
    parts = {part["kind"]: part for part in facts["domains"]["garden"]["parts"]}
    assert parts["exact"]["error"] == 0
    assert 0 < parts["delta"]["error"] < 0.3
    assert facts["bytes"] == facts["shared_bytes"] + sum(each["bytes"] for each in facts["domains"].values())
    facts = mmgrid("expand", place / "family", "--domain", "kitchen", "-o", place / "out", "--json").json
    assert facts["error"] == pytest.approx(parts["delta"]["error"], rel=0.2)


def test_a_wrong_domain_lists_the_known_ones(place: Path) -> None:
    mmgrid("merge", "--family", place / "recipe.yml", place / "family")
    answer = mmgrid("expand", place / "family", "--domain", "attic", "-o", place / "out")
    assert answer.code == 1
    assert "has no domain 'attic'; it has garden, kitchen" in answer.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "error"),
    [(["--bits", "4"], 0.15), (["--bits", "8", "--group", "8"], 0.02), (["--exact"], 0.0), (["--rank", "4"], 1.0)],
)
def test_a_compressed_checkpoint_stands_for_the_checkpoint(options: list[str], error: float, place: Path) -> None:
    answer = mmgrid("compress", place / "garden", "--base", place / "base", "-o", place / "small", *options, "--json")
    assert answer.code == 0, answer.err
    (part,) = answer.json["domains"]["garden"]["parts"]
    assert part["error"] <= error
    files = {file.name for file in (place / "small").iterdir()}
    assert {"config.json", "tokenizer.json", "family.json"} <= files
    assert "model.safetensors" not in files
    mmgrid("expand", place / "small", "-o", place / "out")
    held = state_dict(str(place / "small"))
    assert {name: tensor.numpy().tobytes() for name, tensor in held.items()} == {
        name: data for name, (_, _, data) in bytes_of(place / "out").items()
    }
    sources = [{"name": "a", "path": str(place / "small")}, {"name": "b", "path": str(place / "kitchen")}]
    merge({"method": "linear", "sources": sources}, place / "merged")
    if error == 0:
        assert bytes_of(place / "out") == bytes_of(place / "garden")


def test_what_a_compressed_checkpoint_holds_otherwise_is_noted(place: Path) -> None:
    for seed, (name, shape) in enumerate({"plain": (8, 8), "long": (9, 8), "moved": (8, 8)}.items()):
        values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        write_model(place / name, {"w": values, "norm": values[0]})
    report = compress(place / "long", place / "plain", place / "one")
    assert report.notes == ("long: w: stored as they are, as the shared model lacks them or has another shape or type",)
    report = compress(place / "moved", place / "plain", place / "two", part="low_rank")
    assert report.notes == (
        "moved: low_rank: none of its 2 tensors is a linear layer that changed, so no adapter is stored and their change "
        "is lost",
    )
    with pytest.raises(MergeError, match="towers: there is no tower itm; the checkpoint has norm, …"):
        compress(place / "moved", place / "plain", place / "three", towers={"itm": "own"})


def test_a_base_that_is_a_file_is_named(place: Path) -> None:
    file = place / "base/model.safetensors"
    for_part = {"base": str(file), "sources": [{"path": str(place / "garden")}]}
    for run in (
        lambda: compress(place / "garden", file, place / "out"),
        lambda: build({**for_part, "family": {"part": "delta", "copy_base": False}}, place / "out"),
    ):
        with pytest.raises(
            MergeError, match=r"base: .*model.safetensors: is a file; give the model's folder, .*/base$"
        ):
            run()


def test_the_folder_of_a_compressed_checkpoint_has_a_name_by_itself(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    assert mmgrid("compress", "garden", "--base", "base", "--bits", "2").code == 0
    assert (place / "garden-2bit/family.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["compress", "garden", "--base", "base", "--bits", "5"], "5: must be 2, 3, 4 or 8"),
        (["compress", "garden", "--base", "base", "--exact", "--rank", "2"], "goes with no rank"),
        (["compress", "garden", "--base", "nowhere"], "nowhere: does not exist"),
        (["expand", "garden", "-o", "x"], "garden: is no family of mmgrid"),
        (["merge", "--family", "recipe.yml"], "takes a recipe and the new folder"),
        (["merge", "--family", "recipe.yml", "x", "--scale", "2"], "no other options"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], problem: str, place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    answer = mmgrid(*arguments)
    assert answer.code
    assert problem in " ".join(answer.err.replace("│", " ").split())
    assert not (place / "x").exists()


def test_names_from_outside_are_printed_visibly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("base", "a"):
        write_model(tmp_path / name, {"w\x1b[31m": rng.standard_normal((8, 8)).astype(np.float32)})
    answer = mmgrid("compress", tmp_path / "a", "--base", tmp_path / "base", "-o", tmp_path / "out")
    assert answer.code == 0
    assert "\x1b" not in answer.out


def test_masks_are_no_way_to_compress_one_checkpoint(place: Path) -> None:
    with pytest.raises(MergeError, match="a mask chooses from what several models changed"):
        compress(place / "garden", place / "base", place / "out", part="mask")
    values = values_of(place / "garden")
    assert values
    assert json.loads((place / "garden/config.json").read_text())
