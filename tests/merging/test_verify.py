"""Verifying repeats a merge and finds every difference in its output."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kits.tiny_llama import tiny_llama
from mmgrid.files import digest_file
from mmgrid.merging import MergeError, merge
from mmgrid.merging.verify import FirstDifference, verify


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A merge of `a` and `b` with `base`, by DARE and TIES, in bfloat16."""
    base = tiny_llama(tmp_path / "base", 0)
    for seed, name in enumerate("ab", 1):
        tiny_llama(tmp_path / name, seed, near=base)
    _merge(tmp_path)
    return tmp_path / "out"


def _merge(folder: Path, **changes: Any) -> None:
    recipe = {
        "method": "ties",
        "base": str(folder / "base"),
        "sources": [{"name": name, "path": str(folder / name)} for name in "ab"],
        "options": {"preset": "subspace"},
        "dtype": "bfloat16",
    }
    merge({**recipe, **changes}, folder / "out")


def _change(folder: Path, tensor: str, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[tensor] = change(tensors[tensor])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_unchanged_merge_is_verified(merged: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in merged.parent.rglob("*")}
    steps: list[tuple[int, int, str]] = []
    result = verify(merged, workers=2, progress=lambda *step: steps.append(step))
    assert result.equal
    assert (result.missing, result.changed, result.first, result.differing) == ((), {}, None, {})
    size = sum(tensor.numel() * 2 for tensor in load_file(merged / "model.safetensors").values())
    assert result.compared == size
    assert steps[-1][:2] == (size, size)
    assert {path: path.stat().st_mtime_ns for path in merged.parent.rglob("*")} == before


@pytest.mark.parametrize(("kind", "kept"), [("sha256", "b"), ("sha256", "none"), ("blake3", "b"), ("blake3", "none")])
def test_digests_of_another_kind_in_the_record_are_compared_too(merged: Path, kind: str, kept: str) -> None:
    """Older records hold SHA-256 or BLAKE3, models that were in the Hub's cache then and are not now SHA-256."""
    record = json.loads((merged / "mmgrid.json").read_text())
    for name in {*record["sources"], "base"} - {kept}:
        files = (record["base"] if name == "base" else record["sources"][name])["files"]
        for file, entry in files.items():
            del entry["xxh128"]
            entry[kind] = digest_file(merged.parent / name / file, kind)
    (merged / "mmgrid.json").write_text(json.dumps(record))
    assert verify(merged).changed == {}
    _change(merged.parent / "a", "model.norm.weight", lambda tensor: tensor + 1)
    assert verify(merged).changed == {"a": ("model.safetensors",)}


def test_a_tree_of_models_may_be_moved(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    new = tmp_path_factory.mktemp("elsewhere") / "tree"
    shutil.copytree(merged.parent, new)
    shutil.rmtree(merged.parent)
    assert verify(new / "out").equal


def test_the_first_difference_is_named(merged: Path) -> None:
    def flip(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        changed[3, 5], changed[7, 1] = 5.0, 6.0
        return changed

    expected = load_file(merged / "model.safetensors")["model.layers.1.mlp.up_proj.weight"][3, 5].item()
    _change(merged, "model.layers.1.mlp.up_proj.weight", flip)
    _change(merged, "model.layers.2.mlp.up_proj.weight", flip)
    result = verify(merged)
    assert not result.equal
    assert result.first == FirstDifference("model.layers.1.mlp.up_proj.weight", (3, 5), 5.0, expected)
    assert list(result.differing.values()) == [2, 2]


def test_the_sign_of_a_zero_is_a_difference(merged: Path) -> None:
    shutil.rmtree(merged)
    for name in ("a", "b", "base"):
        _change(merged.parent / name, "model.norm.weight", torch.zeros_like)
    _merge(merged.parent)
    _change(merged, "model.norm.weight", torch.neg)
    assert verify(merged).differing == {"model.norm.weight": 16}


def test_a_changed_source_is_listed_with_the_differences_it_causes(merged: Path) -> None:
    _change(merged.parent / "a", "lm_head.weight", lambda tensor: tensor + 1)
    result = verify(merged)
    assert result.changed == {"a": ("model.safetensors",)}
    assert "lm_head.weight" in result.differing


def test_missing_sources_are_listed_and_nothing_is_compared(merged: Path) -> None:
    shutil.rmtree(merged.parent / "a")
    shutil.rmtree(merged.parent / "base")
    result = verify(merged)
    assert not result.equal
    assert result.missing == (f"source 'a': {merged.parent / 'a'}", f"the base: {merged.parent / 'base'}")
    assert result.compared == 0


def test_differences_in_tensors_types_and_shapes_are_listed(merged: Path) -> None:
    tensors = load_file(merged / "model.safetensors")
    tensors["more"] = tensors.pop("lm_head.weight")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, merged / "model.safetensors")
    assert verify(merged).unlike == {
        "lm_head.weight": "is missing",
        "model.norm.weight": "is float32 [16], and the recipe gives bfloat16 [16]",
        "more": "is not in the result of the recipe",
    }


def test_without_digests_only_bytes_are_compared(merged: Path) -> None:
    shutil.rmtree(merged)
    folder = merged.parent
    sources = [{"path": str(folder / name)} for name in "ab"]
    merge({"method": "linear", "sources": sources}, merged, digests=False)
    assert verify(merged).equal
    assert not verify(merged).digests
    _change(folder / "a", "lm_head.weight", lambda tensor: tensor + 1)
    result = verify(merged)
    assert (result.changed, result.equal) == ({}, False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no mmgrid.json"),
        ("{", "is not JSON"),
        ('{"format": 2}', "contains no recipe"),
        ("[]", "contains no recipe"),
    ],
)
def test_folders_without_a_merge_are_refused(content: str | None, words: str, merged: Path) -> None:
    (merged / "mmgrid.json").unlink()
    if content is not None:
        (merged / "mmgrid.json").write_text(content)
    with pytest.raises(MergeError, match=words):
        verify(merged)


def test_a_record_can_be_used_as_a_recipe(merged: Path) -> None:
    merge(merged / "mmgrid.json", merged.parent / "again")
    again = (merged.parent / "again" / "model.safetensors").read_bytes()
    assert again == (merged / "model.safetensors").read_bytes()
    record = json.loads((merged / "mmgrid.json").read_text())
    assert json.loads((merged.parent / "again" / "mmgrid.json").read_text()) == record


def test_a_resumed_merge_writes_the_same_record(merged: Path) -> None:
    folder = merged.parent
    shutil.move(merged, folder / "undisturbed")
    record = json.loads((folder / "undisturbed" / "mmgrid.json").read_text())

    def interrupt(done: int, total: int, name: str) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(folder / "undisturbed" / "mmgrid.json", merged, progress=interrupt)
    assert not merged.exists()
    steps: list[tuple[int, int, str]] = []
    report = merge(folder / "undisturbed" / "mmgrid.json", merged, progress=lambda *step: steps.append(step))
    assert len(steps) < len(report.merged)
    assert report.kept_share == record["report"]["kept_share"]
    for path in (folder / "undisturbed").iterdir():
        assert (merged / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("sources", ["there", "gone"])
def test_a_flipped_bit_is_found_in_every_file_also_without_the_sources(merged: Path, file: str, sources: str) -> None:
    record = json.loads((merged / "mmgrid.json").read_text())
    assert list(record["files"]) == [
        name for name in ("model.safetensors", "tokenizer.json") if (merged / name).exists()
    ]
    if sources == "gone":
        shutil.rmtree(merged.parent / "a")
        assert verify(merged).damaged == {}
    path = merged / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = verify(merged)
    assert (found.equal, dict(found.damaged)) == (False, {file: "has changed since it was written"})
    path.write_bytes(content[:-1] + b"  ")
    if sources == "gone":  # else the header is refused
        assert verify(merged).damaged == {file: "has another size than when it was written"}
        path.unlink()
        assert verify(merged).damaged == {file: "is missing"}


def test_names_in_a_record_lead_nowhere_and_older_records_have_none(merged: Path) -> None:
    record = json.loads((merged / "mmgrid.json").read_text())
    record["files"] = {"../a/model.safetensors": record["files"]["model.safetensors"], "mmgrid.json": 3}
    (merged / "mmgrid.json").write_text(json.dumps(record))
    assert sorted(verify(merged).damaged) == ["../a/model.safetensors", "mmgrid.json"]
    del record["files"]
    (merged / "mmgrid.json").write_text(json.dumps(record))
    assert verify(merged).equal


def test_damage_is_found_in_files_below_the_folder(merged: Path) -> None:
    model, out = merged.parent / "a", merged.parent / "with modules"
    (model / "modules.json").write_text(
        '[{"path": "1_Pooling"}, {"path": "2_Dense"}, {"path": "3_Normalize", "type": "st.Normalize"}]'
    )
    for name in ("1_Pooling/config.json", "2_Dense/model.safetensors"):
        (model / name).parent.mkdir()
        (model / name).write_text("{}")
    merge({"method": "linear", "sources": [{"path": str(model)}]}, out)
    assert verify(out).equal
    (out / "1_Pooling" / "config.json").write_text("[]")
    (out / "2_Dense" / "model.safetensors").unlink()
    assert verify(out).damaged == {
        "1_Pooling/config.json": "has changed since it was written",
        "2_Dense/model.safetensors": "is missing",
    }


def test_files_are_compared_by_whatever_kind_of_digest_an_older_record_has(merged: Path) -> None:
    record, file = json.loads((merged / "mmgrid.json").read_text()), merged / "model.safetensors"
    entry = record["files"] = {file.name: {"blake3": digest_file(file, "blake3"), "bytes": file.stat().st_size}}
    (merged / "mmgrid.json").write_text(json.dumps(record))
    assert verify(merged).equal
    entry[file.name]["md5"] = entry[file.name].pop("blake3")
    (merged / "mmgrid.json").write_text(json.dumps(record))
    assert "no digest of a kind that is known" in verify(merged).damaged[file.name]
