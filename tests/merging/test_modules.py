"""Weights of the modules of sentence-transformers, such as `2_Dense`, are merged with their model's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kits.tiny_llama import loaded, tiny_llama
from mmgrid.merging import merge
from mmgrid.merging.verify import verify

MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]
WEIGHTS = Path("2_Dense", "model.safetensors")


def _model(folder: Path, seed: int, *, near: Path | None = None, rows: int = 4, **settings: Any) -> Path:
    tiny_llama(folder, seed, near=near, layers=1, dtype=torch.bfloat16)
    (folder / "modules.json").write_text(json.dumps(MODULES))
    for name in ("1_Pooling", "2_Dense"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"bias": True, **settings}))
    generator = torch.Generator().manual_seed(seed)
    dense = {
        "linear.weight": torch.randn(rows, 8, generator=generator),
        "linear.bias": torch.randn(rows, generator=generator),
    }
    save_file(dense, folder / WEIGHTS)
    return folder


def _dense(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


def _recipe(base: Path | None, *sources: Path, **more: Any) -> dict[str, Any]:
    based = {} if base is None else {"base": str(base)}
    return {"method": "linear", **based, "sources": [{"path": str(path)} for path in sources], **more}


def test_modules_are_merged_as_tensors_of_their_model(tmp_path: Path) -> None:
    base = _model(tmp_path / "base", 0)
    one, other = (_model(tmp_path / name, seed, near=base) for seed, name in enumerate("ab", 1))
    recipe = _recipe(base, one, other, method="ties", options={"density": 0.6, "scope": "tensor"}, scale=0.5)
    report, out = merge(recipe, tmp_path / "out"), tmp_path / "out"
    assert report.notes == ()
    assert {"2_Dense/linear.weight", "2_Dense/linear.bias"} < set(report.merged)
    assert "2_Dense/linear.weight" not in loaded(out)
    alone = tmp_path / "alone"
    alone_recipe = _recipe(base / "2_Dense", one / "2_Dense", other / "2_Dense")
    merge({**recipe, "base": alone_recipe["base"], "sources": alone_recipe["sources"]}, alone)
    assert all(tensor.equal(loaded(alone)[name]) for name, tensor in _dense(out).items())
    settings = json.loads((out / "config.json").read_text())
    assert settings["torch_dtype"] == "bfloat16"  # of the model itself
    assert (out / "1_Pooling" / "config.json").is_file()
    assert "dtype: bfloat16" in (out / "mergekit_config.yml").read_text()

    record = json.loads((out / "mmgrid.json").read_text())
    assert all(set(source["files"]) == {"model.safetensors", str(WEIGHTS)} for source in record["sources"].values())
    assert verify(out).equal
    changed = {name: tensor + 1 for name, tensor in _dense(out).items()}
    save_file(changed, out / WEIGHTS)
    found = verify(out)
    assert set(found.differing) == {"2_Dense/linear.weight", "2_Dense/linear.bias"}
    assert str(WEIGHTS) in found.damaged
    (out / WEIGHTS).unlink()
    assert verify(out).unlike["2_Dense/linear.bias"] == "is missing"
    save_file(changed, one / WEIGHTS)
    assert verify(out).changed == {"a": (str(WEIGHTS),)}


def test_models_that_differ_in_a_module_alone_are_two(tmp_path: Path) -> None:
    one, other = _model(tmp_path / "a", 1), _model(tmp_path / "b", 1)
    save_file({name: 3 * tensor for name, tensor in _dense(one).items()}, other / WEIGHTS)
    merge(_recipe(None, one, other), tmp_path / "out")
    torch.testing.assert_close(_dense(tmp_path / "out"), {name: 2 * tensor for name, tensor in _dense(one).items()})


def _without_module(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps(MODULES[:2]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_module, "b has no 2_Dense/model.safetensors"),
        (lambda folder: (folder / WEIGHTS).unlink(), "b has no 2_Dense/model.safetensors"),
        (lambda folder: (folder / "2_Dense/config.json").write_text("{}"), "b has another 2_Dense/config.json"),
        (lambda folder: save_file({"linear.weight": torch.ones(1)}, folder / WEIGHTS), "b has other tensors or shapes"),
        (lambda folder: (folder / WEIGHTS).write_text("<html>"), "they cannot be read "),
    ],
)
def test_modules_that_differ_are_those_of_the_first_with_a_note(change: Any, words: str, tmp_path: Path) -> None:
    one, other = _model(tmp_path / "a", 1), _model(tmp_path / "b", 2)
    change(other)
    report = merge(_recipe(None, one, other), tmp_path / "out")
    assert len(report.notes) == 1
    assert report.notes[0].startswith(f"2_Dense: its weights are not merged; the result has those of {one}: {words}")
    assert all(tensor.equal(_dense(one)[name]) for name, tensor in _dense(tmp_path / "out").items())


def test_a_module_that_the_first_model_lacks_is_left_out_with_a_note(tmp_path: Path) -> None:
    one, other = _model(tmp_path / "a", 1), _model(tmp_path / "b", 2)
    _without_module(one)
    report = merge(_recipe(None, one, other), tmp_path / "out")
    assert report.notes == (f"b: 2_Dense: is left out; the result has the modules of {one}",)
    assert not (tmp_path / "out" / "2_Dense").exists()


def test_pickled_modules_and_stacks_keep_the_first_ones(tmp_path: Path) -> None:
    one, other = _model(tmp_path / "a", 1), _model(tmp_path / "b", 2)
    stack = [{"layers": [0, 1]}, {"layers": [0, 1], "path": str(other)}]
    stacked = {"method": "linear", "sources": [{"path": str(one), "stack": stack}]}
    note = f"2_Dense: weights are not merged; the result has those of {one}: layers are stacked"
    assert merge(stacked, tmp_path / "stacked").notes == (note,)
    (one / WEIGHTS).rename(one / "2_Dense" / "pytorch_model.bin")
    note = f"2_Dense: its weights are not merged; the result has those of {one}: they are not in model.safetensors"
    assert merge(_recipe(None, one, other), tmp_path / "out").notes == (note,)
    assert (tmp_path / "out" / "2_Dense" / "pytorch_model.bin").is_file()
