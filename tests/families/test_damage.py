"""Wrong names, damaged and moved files, and writes that end too early."""

import json
import shutil
from pathlib import Path

import pytest

from kits.arrays import bytes_of
from kits.tiny_llama import tiny_llama
from mmgrid.families import build, expand, state_dict
from mmgrid.merging import MergeError
from mmgrid.merging.models.tensor_writer import TensorWriter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, two models near it, and families of them."""
    folder = tmp_path_factory.mktemp("family")
    base = tiny_llama(folder / "base", 0, layers=1)
    for number, name in enumerate(("garden", "kitchen"), 1):
        tiny_llama(folder / name, number, layers=1, near=base)
    sources = [{"path": str(folder / name)} for name in ("garden", "kitchen")]
    rules = [{"tensors": "*q_proj*", "part": "exact"}, {"tensors": "*k_proj*", "part": "own"}]
    rules += [{"tensors": "*v_proj*", "part": "mask"}, {"tensors": "*o_proj*", "part": "low_rank"}]
    recipe = {"base": str(base), "method": "emr", "sources": sources, "family": {"part": "delta", "rules": rules}}
    build(recipe, folder / "family")
    recipe = {"base": str(base), "sources": sources, "family": {"part": "delta", "copy_base": False}}
    build(recipe, folder / "light")
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def refused(place: Path, match: str, family: str = "family", **options) -> None:
    with pytest.raises(MergeError, match=match):
        expand(place / family, place / "out", **{"domain": "garden", **options})
    assert not (place / "out").exists()
    assert [path.name for path in place.glob(".*")] == []


def test_a_wrong_domain_lists_the_known_ones(whole: Path) -> None:
    refused(whole, "has no domain 'gardn'; did you mean garden.; it has garden, kitchen", domain="gardn")
    refused(whole, "is a family of garden, kitchen; say which domain", domain=None)
    refused(whole, "is no family of mmgrid: it has no family.json", family="garden")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[:-40], r"family.json: is not JSON .* perhaps cut"),
        (lambda text: "", r"family.json: is empty"),
        (lambda text: "[1]", r"family.json: is no family of mmgrid"),
        (
            lambda text: text.replace('"version": 1', '"version": 2'),
            r"has version 2 of the format; this mmgrid reads 1",
        ),
        (lambda text: text.replace('"delta"', '"detla"', 1), r"family.json: domains.garden.*should be"),
        (lambda text: text.replace('"parts/garden"', '"../garden"'), r"'../garden': is not a path inside"),
        (
            lambda text: text.replace('"config.json": {', '"../config.json": {'),
            r"'../config.json' is not the name of a file",
        ),
        (
            lambda text: text.replace('"path": "shared"', '"path": "elsewhere"', 1),
            r"elsewhere, which lacks model.safetensors",
        ),
        (lambda text: text.replace('"part": 1', '"part": 19'), r"there is no part 19"),
    ],
)
def test_a_damaged_family_file_says_what_is_wrong(change, problem: str, place: Path) -> None:
    file = place / "family/family.json"
    before = file.read_text()
    file.write_text(change(before))
    assert file.read_text() != before
    refused(place, problem)


@pytest.mark.parametrize(
    "change",
    [
        lambda domain: domain["tensors"].popitem(),
        lambda domain: domain["tensors"]["model.layers.0.mlp.up_proj.weight"].update(kind="shared"),
        lambda domain: domain["tensors"]["model.layers.0.self_attn.q_proj.weight"].pop("difference"),
        lambda domain: domain["files"].popitem(),
    ],
)
def test_a_changed_family_file_that_still_makes_sense_is_refused(change, place: Path) -> None:
    file = place / "family/family.json"
    value = json.loads(file.read_text())
    change(value["domains"]["garden"])
    file.write_text(json.dumps(value))
    refused(place, "family.json: was changed after it was written, or is damaged; copy or write the family again")


def test_the_places_of_the_models_below_may_be_mended_by_hand(place: Path) -> None:
    (place / "base").rename(place / "moved")
    file = place / "light/family.json"
    file.write_text(file.read_text().replace('"path": "../base"', '"path": "../moved"'))
    expand(place / "light", place / "out", domain="garden")


def test_families_without_a_checksum_are_read(place: Path) -> None:
    file = place / "family/family.json"
    value = json.loads(file.read_text())
    del value["checksum"]
    file.write_text(json.dumps(value))
    expand(place / "family", place / "plain", domain="garden")
    value["domains"]["garden"]["parts"][0]["options"]["vectors"] = "\ud800"
    file.write_text(json.dumps(value))
    refused(place, "family.json: holds a text that is no Unicode")


@pytest.mark.parametrize("kind", ["own", "exact", "delta", "mask", "low_rank/adapter_model"])
def test_missing_cut_and_changed_parts_are_noticed(kind: str, place: Path) -> None:
    file = place / f"family/parts/garden/{kind}.safetensors"
    data = file.read_bytes()
    file.unlink()
    refused(place, rf"{kind}.safetensors: is missing")
    file.write_bytes(data[:-1])
    refused(place, r"bytes, and had .* when the family was written")
    file.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    refused(place, r"safetensors: is damaged, or was changed after the family was written")
    with pytest.raises(MergeError, match="is damaged, or was changed after the family was written"):
        state_dict(place / "family", "garden")  # no digest of a whole file is compared, and yet
    expand(place / "family", place / "other", domain="kitchen")


def test_other_files_are_checked_too(place: Path) -> None:
    file = place / "family/shared/tokenizer.json"
    file.write_bytes(file.read_bytes().replace(b"t1", b"t2"))
    refused(place, r"tokenizer.json: is damaged, or was changed")
    file.unlink()
    refused(place, r"tokenizer.json: is missing")


def test_a_part_that_lacks_what_family_json_lists(place: Path) -> None:
    """As after mixing the files of two families."""
    other = place / "light/parts/garden"
    facts = json.loads((place / "light/family.json").read_text())["domains"]["garden"]["weights"]
    shutil.copy(other / "delta.safetensors", place / "family/parts/garden/delta.safetensors")
    value = json.loads((place / "family/family.json").read_text())
    value["domains"]["garden"]["weights"]["delta.safetensors"] = facts["delta.safetensors"]
    value["domains"]["garden"]["tensors"]["model.norm.weight"] |= {"kind": "delta", "part": 0}
    del value["checksum"]
    (place / "family/family.json").write_text(json.dumps(value))
    refused(place, r"delta.safetensors: lacks model.norm.weight:codes, which family.json lists")


def test_another_shared_model_is_refused(place: Path) -> None:
    shutil.copy(place / "kitchen/model.safetensors", place / "base/model.safetensors")
    refused(place, r"is another file than when .*light was written as changes of it", "light")


def test_a_shared_model_that_has_moved_is_named(place: Path) -> None:
    expand(place / "light", place / "before", domain="garden")
    (place / "base").rename(place / "moved")
    refused(place, r"which lacks model.safetensors; put it there, or name its folder \(--shared", "light")
    expand(place / "light", place / "after", domain="garden", shared=place / "moved")
    assert bytes_of(place / "after") == bytes_of(place / "before")


def test_a_family_can_be_moved_as_a_whole(whole: Path, tmp_path: Path) -> None:
    expand(whole / "family", tmp_path / "before", domain="kitchen")
    shutil.copytree(whole / "family", tmp_path / "elsewhere")
    expand(tmp_path / "elsewhere", tmp_path / "after", domain="kitchen")
    assert bytes_of(tmp_path / "after") == bytes_of(tmp_path / "before")


@pytest.mark.parametrize("ends", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_publishes_nothing(ends: BaseException, whole: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = {
        "base": str(whole / "base"),
        "sources": [{"path": str(whole / "garden")}],
        "family": {"part": "delta"},
    }
    calls, write = [0], TensorWriter.write

    def failing(self: TensorWriter, *arguments) -> None:
        calls[0] += 1
        if calls[0] == 9:
            raise ends
        write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TensorWriter, "write", failing)
        for run in (
            lambda: build(recipe, tmp_path / "out", workers=1),
            lambda: expand(whole / "family", tmp_path / "out", domain="garden", workers=1),
        ):
            calls[0] = 0
            with pytest.raises(type(ends)):
                run()
            assert calls[0] == 9
            assert not (tmp_path / "out").exists()
    build(recipe, tmp_path / "out")  # what a kill left behind is not used
    expand(tmp_path / "out", tmp_path / "back")
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_overwritten(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("mine")
    with pytest.raises(MergeError, match="exists already"):
        expand(whole / "family", tmp_path / "out", domain="garden")
    with pytest.raises(MergeError, match="lies in the source"):
        expand(whole / "family", whole / "family/out", domain="garden")


def test_a_file_with_the_name_of_a_part_is_refused(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "garden", tmp_path / "garden")
    (tmp_path / "garden/delta.safetensors").write_bytes(b"")
    recipe = {"base": str(whole / "base"), "sources": [{"path": str(tmp_path / "garden")}]}
    with pytest.raises(MergeError, match=r"delta.safetensors: a part of a family has a file of this name, too"):
        build(recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        ({"part": "detla"}, r"family.part: must name a kind of part, not 'detla'; did you mean delta\?"),
        ({"part": {"kind": "delta", "bits": 5}}, r"family.part.bits: should be 2, 3, 4 or 8"),
        ({"part": {"kind": "delta", "bit": 4}}, r"family.part.bit: unknown key"),
        ({"parts": "delta"}, r"family.parts: unknown key; did you mean part\?"),
        ({"towers": {"item": "owned"}}, r"family.towers.item: must name a kind of part, not 'owned'"),
        ({"part": "mask"}, r"masks choose from a shared change"),
        (
            {"rules": [{"tensors": "*.mlq.*", "part": "own"}]},
            r"family.rules\[0\]: no tensor is called \*.mlq.\*; the models",
        ),
        ({"towers": {"itm": "own"}}, r"family.towers: there is no tower itm; the models have"),
        ({"shared": "bas"}, r"family.shared: no folder .*bas; write merge, base, or a model's folder"),
        ({"shared": "merge", "chain": True}, r"a chain has neither method nor base"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(family: dict, problem: str, whole: Path, tmp_path: Path) -> None:
    recipe = {"base": str(whole / "base"), "sources": [{"path": str(whole / "garden")}], "family": family}
    with pytest.raises(MergeError, match=problem):
        build(recipe, tmp_path / "out")
