"""Files that are no files of a model: pointers, error pages, empty, packed and cut ones."""

from pathlib import Path

import pytest
import torch

from kits.tiny_llama import linear, tiny_llama, with_settings
from mmgrid.merging import MergeError, merge

DOWN = "model.layers.0.mlp.down_proj.weight"


IMPOSTORS: dict[str | bytes, str] = {
    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n": r"pointer of Git LFS.*git lfs pull",
    "\ufeffversion https://hawser.github.com/spec/v1\r\n": r"pointer of Git LFS",
    "# xet version 0\nfilesize = 3": "pointer of Xet",
    "../.git/annex/objects/x/y": "pointer of git-annex.*git annex get",
    "<!DOCTYPE html><html>404": "is a web page",
    "\n <html>": "is a web page",
    "<!-- proxy --><title>Sign in</title>": "is a web page",
    "<?xml version='1.0'?><Error>": "is XML",
    "<Error><Code>AccessDenied</Code>": "is XML",
    "Entry not found": r"error message of a server \(entry not found\)",
    "404: Not Found": "error message of a server",
    '{"error": "Repository not found"}': "error message of a server",
    "": "is empty; download the file again",
    " \n": "is empty",
    b"\0" * 99: "holds only zeros",
    b"\x1f\x8b\x08": r"is packed \(gzip\); unpack it",
    b"PK\x03\x04\x14\0": r"is packed \(zip\)",
    b"\x89HDF\r\n": "is in HDF5 format",
    b"GGUF\x03": "is in GGUF format",
    "<<<<<<< HEAD\n{}": "marks of a conflict of Git",
}
FILES = ("model.safetensors", "tokenizer.json", "config.json", "tokenizer.model", "merges.txt", "tokenizer_config.json")


@pytest.mark.parametrize("content", IMPOSTORS, ids=[words[:20] for words in IMPOSTORS.values()])
def test_files_that_are_something_else_are_named(content: str | bytes, tmp_path: Path) -> None:
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    for file in FILES:
        before = (a / file).read_bytes() if (a / file).exists() else None
        (a / file).write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(MergeError, match=rf"a/{file}: .*{IMPOSTORS[content]}"):
            merge(linear(a, b), tmp_path / "out")
        (a / file).unlink() if before is None else (a / file).write_bytes(before)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_the_files_of_every_model_are_looked_at(file: str, tmp_path: Path) -> None:
    """Otherwise its settings and tokens would not be compared, without a word."""
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    (b / file).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(MergeError, match=rf"b/{file}: is a pointer of Git LFS"):
        merge(linear(a, b), tmp_path / "out")
    (b / file).write_text("[]")
    with pytest.raises(MergeError, match=rf"b/{file}: is not a JSON object"):
        merge(linear(a, b), tmp_path / "out")


@pytest.mark.parametrize("file", ["model.safetensors.index.json", "adapter_config.json", "mmgrid.json", "recipe.yml"])
def test_other_files_are_looked_at_when_they_cannot_be_read(file: str, tmp_path: Path) -> None:
    a = tiny_llama(tmp_path / "a", 0, layers=1)
    if file != "mmgrid.json":
        (a / "model.safetensors").unlink()
    (a / file).write_text("<!doctype html>")
    with pytest.raises(MergeError, match=rf"{file}: is a web page"):
        merge(a / file if file == "recipe.yml" else linear(a), tmp_path / "out")


def test_a_cut_tokenizer_and_pickled_weights_are_named(tmp_path: Path) -> None:
    a = tiny_llama(tmp_path / "a", 0, layers=1)
    whole = (a / "tokenizer.json").read_text()
    (a / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(MergeError, match=r"tokenizer\.json: is not JSON .* perhaps cut; download the file again"):
        merge(linear(a), tmp_path / "out")
    torch.save({"x": torch.ones(2)}, a / "model.safetensors")
    with pytest.raises(MergeError, match=r"a/model\.safetensors: is pickled by PyTorch"):
        merge(linear(a), tmp_path / "out")


def test_folders_without_a_model_say_where_one_is(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "run" / "checkpoint-500", 0, layers=1)
    (tmp_path / "run" / "math").mkdir()
    (tmp_path / "run" / "math" / "adapter_config.json").write_text("{}")
    with pytest.raises(MergeError, match=r"contains no safetensors\. Name a folder in it: checkpoint-500, math"):
        merge(linear(tmp_path / "run"), tmp_path / "out")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "model.Q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(MergeError, match=r"contains no safetensors \(model\.Q4\.gguf is a GGUF file"):
        merge(linear(tmp_path / "packed"), tmp_path / "out")


def test_one_part_of_a_model_is_no_model(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    with pytest.raises(
        MergeError, match=r"holds model-00001-of-00002\.safetensors, .* no model\.safetensors\.index\.json"
    ):
        merge(linear(model), tmp_path / "out")
    (model / "model-00001-of-00002.safetensors").rename(model / "model-00001-of-00001.safetensors")
    merge(linear(model), tmp_path / "out")


def test_modules_that_are_not_there_are_named(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    (model / "modules.json").write_text(
        '[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize", "type": "sentence_transformers.Normalize"}]'
    )
    note = f"1_Pooling: named by {model}/modules.json, but not there, or without weights; copy what is needed to the result"
    assert merge(linear(model), tmp_path / "out").notes == (note,)
    (model / "1_Pooling").mkdir()
    assert merge(linear(model), tmp_path / "whole").notes == ()
    (model / "modules.json").write_text('[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]')
    (model / "2_Dense").mkdir()
    (model / "2_Dense" / "config.json").write_text("{}")
    assert merge(linear(model), tmp_path / "out2").notes == (note.replace("1_Pooling", "2_Dense"),)


def test_what_a_model_needs_beside_its_weights_is_copied(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    (model / "modules.json").write_text(
        '[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}, {"path": "../x"}, {"path": ".."}, 5]'
    )
    (tmp_path / "beside.json").write_text("{}")
    below = ("1_Pooling/config.json", "2_Dense/model.safetensors", "additional_chat_templates/tool.jinja")
    for name in below:
        (model / name).parent.mkdir()
        (model / name).write_text("{}")
    (model / "modeling_own.py").write_text("")
    report = merge(linear(model), tmp_path / "merges" / "out")
    assert [path.name for path in (tmp_path / "merges").iterdir()] == ["out"]
    (tmp_path / "merges" / "out").rename(tmp_path / "out")
    assert all((tmp_path / "out" / name).is_file() for name in below)
    (note,) = report.notes
    assert note.startswith(f"2_Dense: its weights are not merged; the result has those of {model}: they cannot be read")
    assert not (tmp_path / "out" / "modeling_own.py").exists()
    with_settings(model, auto_map={"AutoModel": "modeling_own.Own"})
    merge(linear(model), tmp_path / "own")
    assert (tmp_path / "own" / "modeling_own.py").exists()
