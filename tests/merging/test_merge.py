"""Merging folders: the files that are written, and that partial output and other folders are never touched."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from xxhash import xxh3_128

from mmgrid.files import DiskFull
from mmgrid.merging import MergeError, MergeRecipe, merge, merge_state_dicts, one_output

CONFIG = {"model_type": "qwen3", "dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "layers": 2}}


def _model(folder: Path, seed: int, dtype: torch.dtype = torch.bfloat16, shards: int = 1) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"layer.{n}.weight": torch.randn(5, 9, generator=generator).to(dtype) for n in range(4)}
    tensors |= {"temperature": torch.randn((), generator=generator).to(dtype), "ids": torch.arange(6)}
    folder.mkdir(parents=True)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        place = {name: f"model-{number % shards}.safetensors" for number, name in enumerate(names)}
        for shard in set(place.values()):
            save_file({name: tensors[name] for name in names if place[name] == shard}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps({"of": str(seed)}))
    for bookkeeping in ("mmgrid.json", "record.json", "README.md", "optimizer.pt"):
        (folder / bookkeeping).write_text("{}")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    _model(tmp_path / "base", 0)
    _model(tmp_path / "books", 1)
    _model(tmp_path / "toys", 2, shards=3)
    return tmp_path


def _recipe(models: Path, **changes: Any) -> dict[str, Any]:
    sources = [{"name": name, "path": str(models / name), "weight": 0.5} for name in ("toys", "books")]
    base = str(models / "base")
    return {"method": "task_arithmetic", "sources": sources, "base": base, "scale": 0.7, **changes}


def test_a_source_that_is_the_base_is_noted(models: Path) -> None:
    same = [{"name": "old", "path": str(models / "base")}, {"name": "toys", "path": str(models / "toys")}]
    report = merge(_recipe(models, sources=same), models / "out")
    assert report.notes == ("old: is the base, so its task vector is zero",)
    assert merge({"method": "linear", "sources": same}, models / "average").notes == ()


def _digest(folder: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content.update(f"{path.relative_to(folder)} {path.stat().st_mtime_ns}".encode())
        content.update(path.read_bytes() if path.is_file() else b"")
    return content.hexdigest()


def _loaded(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def test_equals_the_merge_in_memory(models: Path) -> None:
    before = {name: _digest(models / name) for name in ("base", "books", "toys")}
    steps: list[tuple[int, int, str]] = []
    report = merge(_recipe(models), models / "out", progress=lambda *step: steps.append(step))
    expected = merge_state_dicts(
        "task_arithmetic",
        {name: _loaded(models / name) for name in ("books", "toys")},
        base=_loaded(models / "base"),
        weights={"books": 0.5, "toys": 0.5},
        scale=0.7,
        dtype=None,
    )
    merged = load_file(models / "out" / "model.safetensors")
    assert merged.keys() == expected.keys()
    assert all(merged[name].equal(expected[name]) for name in expected)
    assert merged["temperature"].dtype == torch.bfloat16
    assert {name: _digest(models / name) for name in before} == before
    assert report.merged == (*(f"layer.{n}.weight" for n in range(4)), "temperature")
    assert list(report.kept) == ["ids"]
    assert report.parameters == 4 * 45 + 1
    assert report.bytes_written == 2 * 181 + 48
    assert report.bytes_read == 3 * report.bytes_written
    assert steps[-1][:2] == (410, 410)
    assert sorted(path.name for path in models.iterdir()) == ["base", "books", "out", "toys"]


def test_config_tokenizer_record_and_card_are_written(models: Path) -> None:
    merge(_recipe(models), models / "out")
    out = models / "out"
    names = ["README.md", "config.json", "mergekit_config.yml", "mmgrid.json", "model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / "tokenizer.json").read_text()) == {"of": "2"}  # the first source's
    assert json.loads((out / "config.json").read_text()) == CONFIG
    record = json.loads((out / "mmgrid.json").read_text())
    assert record["recipe"]["options"] == {"normalise": False}
    assert record["sources"]["books"]["files"]["model.safetensors"]["xxh128"] == (
        xxh3_128((models / "books" / "model.safetensors").read_bytes()).hexdigest()
    )
    assert len(record["sources"]["toys"]["files"]) == 3
    assert record["report"]["kept"] == {"ids": "whole numbers, the same in all sources"}
    assert MergeRecipe.load(record["recipe"]).sources[0].name == "toys"
    # Paths in the record are relative to the output's parent folder, so that the whole tree can be moved.
    assert record["recipe"]["base"] == "base"
    merge(MergeRecipe.load(record["recipe"]).anchored(models), models / "again")
    assert (models / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_the_config_names_the_written_type(models: Path) -> None:
    merge(_recipe(models, dtype="float32"), models / "out")
    config = json.loads((models / "out" / "config.json").read_text())
    assert config == {"model_type": "qwen3", "dtype": "float32", "text_config": {"dtype": "float32", "layers": 2}}
    assert load_file(models / "out" / "model.safetensors")["temperature"].dtype == torch.float32


def test_order_and_sharding_change_no_bit_of_the_weights(models: Path) -> None:
    recipe = _recipe(models)
    merge(recipe, models / "one")
    merge({**recipe, "sources": recipe["sources"][::-1]}, models / "other")
    _model(models / "whole" / "toys", 2)
    recipe["sources"][0]["path"] = str(models / "whole" / "toys")
    merge(recipe, models / "third")
    weights = {(models / name / "model.safetensors").read_bytes() for name in ("one", "other", "third")}
    assert len(weights) == 1


def test_an_unnamed_source_is_named_by_its_digest(models: Path) -> None:
    recipe = {"method": "linear", "sources": [{"path": str(models / "books")}, {"path": str(models / "base")}]}
    merge(recipe, models / "out")
    record = json.loads((models / "out" / "mmgrid.json").read_text())
    digest = hashlib.sha256((models / "books" / "model.safetensors").read_bytes()).hexdigest()
    assert record["recipe"]["sources"][0]["name"] == digest
    recipe["sources"][1] = recipe["sources"][0]
    with pytest.raises(MergeError, match="same weights"):
        merge(recipe, models / "twice")


def test_paths_in_a_recipe_file_are_relative_to_it(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"method": "linear", "sources": [{"name": "a", "path": "books"}, {"name": "b", "path": "toys"}]}
    (models / "recipe.json").write_text(json.dumps(recipe))
    (models / "recipe.yml").write_text("method: linear\nsources:\n- {name: a, path: books}\n- {name: b, path: toys}\n")
    merge(models / "recipe.json", models / "json")
    merge(models / "recipe.yml", models / "yaml")
    monkeypatch.chdir(models)
    merge(recipe, "relative")
    assert len({(models / name / "model.safetensors").read_bytes() for name in ("json", "yaml", "relative")}) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scael": 1}, r"recipe: scael: unknown key; did you mean scale\?"),
        ({"sources": [{"path": "a", "wieght": 1}]}, r"sources.0.wieght: unknown key; did you mean weight\?"),
        ({"sources": []}, "recipe: sources: must not be empty"),
        ({"sources": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]}, "sources: two sources are called 'x'"),
        ({"scale": float("nan")}, "scale.*finite"),
        ({"dtype": "float64"}, "dtype: "),
        ({"method": "tise"}, "unknown merge method 'tise'"),
        ({"options": {"density": 0.2}}, "unknown option 'density'.*known: normalise"),
        ({"base": None}, "needs a base"),
    ],
)
def test_invalid_recipes_are_refused(models: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MergeError, match=says):
        merge(_recipe(models, **changes), models / "out")
    assert not (models / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, r"recipe\.yml: does not exist"),
        ("method: [linear", r"recipe\.yml: is not YAML .*line 1"),
        ("method: !!python/object:os.system x", r"recipe\.yml: is not YAML .*could not determine a constructor"),
        ("[" * 3000, r"recipe\.yml: is not YAML"),
        ("- linear", r"recipe\.yml: is not a recipe: it must hold method, sources"),
        ("method: linear", r"recipe\.yml: sources: is missing"),
        ("merge_method: linear\nmodels: []", r"recipe\.yml: is a recipe of mergekit; read it with --mergekit"),
    ],
)
def test_invalid_recipe_files_are_refused(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "recipe.yml").write_text(text)
    with pytest.raises(MergeError, match=says):
        merge(tmp_path / "recipe.yml", tmp_path / "out")


# ---- failures


def test_existing_folders_are_never_overwritten(models: Path) -> None:
    (models / "out").mkdir()
    merge(_recipe(models), models / "out")  # an empty folder is fine
    before = _digest(models / "out")
    with pytest.raises(MergeError, match="exists already"):
        merge(_recipe(models), models / "out")
    assert _digest(models / "out") == before
    for place in (models / "books", models / "books" / "merged", models / "base" / "x" / "y"):
        with pytest.raises(MergeError, match="lies in the source .*, and sources are never changed"):
            merge(_recipe(models), place)
        assert place.name == "books" or not place.exists()


def test_a_bad_tensor_leaves_nothing_behind(models: Path) -> None:
    tensors = _loaded(models / "books")
    tensors["layer.3.weight"][0, 0] = float("nan")
    save_file(tensors, models / "books" / "model.safetensors")
    with pytest.raises(MergeError, match=r"tensor layer\.3\.weight: source 'books' holds NaN"):
        merge(_recipe(models), models / "out")
    assert sorted(path.name for path in models.iterdir()) == ["base", "books", "toys"]


def test_a_source_that_changes_during_the_merge(models: Path) -> None:
    def touched(done: int, total: int, name: str) -> None:
        os.utime(models / "toys" / "model-0.safetensors", (1, done))

    with pytest.raises(MergeError, match=r"model-0\.safetensors: was changed"):
        merge(_recipe(models), models / "out", progress=touched)
    assert not (models / "out").exists()


def test_two_merges_into_one_folder(models: Path) -> None:
    def second(done: int, total: int, name: str) -> None:
        with pytest.raises(MergeError, match="another merge is writing it"):
            merge(_recipe(models), models / "out")

    merge(_recipe(models), models / "out", progress=second)
    assert (models / "out" / "mmgrid.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root: " + mounted.stderr.decode().strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(models: Path, small_disk: Path) -> None:
    for name in ("a", "b"):
        (models / name).mkdir()
        save_file({"w": torch.ones(100_000)}, models / name / "model.safetensors")
    recipe = {"method": "linear", "sources": [{"path": models / name, "name": name} for name in "ab"]}
    with pytest.raises(DiskFull, match="give another output folder"):
        merge(recipe, small_disk / "out")
    assert not list(small_disk.iterdir())


def test_an_injected_full_disk(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise RuntimeError("No space left on device (os error 28)")

    monkeypatch.setattr(one_output, "copy_companions", full)
    with pytest.raises(DiskFull):
        merge(_recipe(models), models / "out")
    assert sorted(path.name for path in models.iterdir()) == ["base", "books", "toys"]


KILLED = """
import json, os, signal, sys
from mmgrid.merging import merge

def die(done, total, name):
    if name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

merge(json.loads(sys.argv[1]), sys.argv[2], progress=die)
"""


def test_a_resumed_merge_equals_an_uninterrupted_one(models: Path) -> None:
    command = [sys.executable, "-c", KILLED, json.dumps(_recipe(models)), str(models / "out"), "layer.2.weight"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (models / "out").exists()
    merge(_recipe(models), models / "out")
    merge(_recipe(models), models / "straight")
    assert sorted(path.name for path in models.iterdir()) == ["base", "books", "out", "straight", "toys"]
    for path in (models / "straight").iterdir():
        assert (models / "out" / path.name).read_bytes() == path.read_bytes()


HUNGRY = """
import sys, torch
from pathlib import Path
from mmgrid.merging import merge

def high_water():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

folder = sys.argv[1]
torch.ones(10).to(torch.bfloat16).float().aminmax()
before = high_water()
sources = [{"name": name, "path": f"{folder}/{name}"} for name in "ab"]
merge({"method": "linear", "sources": sources}, f"{folder}/out")
print((high_water() - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the high-water mark is read from /proc")
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        tensors = {f"{n}": torch.zeros(1 << 19, dtype=torch.bfloat16) for n in range(48)}  # 1 MiB each
        save_file(tensors, tmp_path / name / "model.safetensors")
    result = subprocess.run(
        [sys.executable, "-c", HUNGRY, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(result.stdout) < 40, "MiB of memory for a merge of 2 × 48 MiB"
