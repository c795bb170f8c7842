"""Models stacked from layers of others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kits.tiny_llama import loaded, tiny_llamas
from mmgrid.merging import MergeError, MergeRecipe, merge
from mmgrid.merging.verify import verify

STACK = [{"layers": [0, 3]}, {"path": "b", "layers": [1, 4]}]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny_llamas(tmp_path)


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    file = folder / "config.json"
    value = {**json.loads(file.read_text()), **changes}
    if changes:
        file.write_text(json.dumps(value))
    return value


def test_layers_are_renumbered_and_the_config_is_mended(models: Path) -> None:
    settings(models / "a", layer_types=["full", "slid", "full", "slid"])
    settings(models / "b", layer_types=["slid", "slid", "slid", "full"])
    merge({"method": "linear", "sources": [{"path": "a", "stack": STACK}]}, models / "out")
    out, a, b = (loaded(models / name) for name in ("out", "a", "b"))
    assert len(out) == 3 + 6 * 9
    for layer, (origin, number) in enumerate([(a, 0), (a, 1), (a, 2), (b, 1), (b, 2), (b, 3)]):
        for rest in ("mlp.up_proj.weight", "input_layernorm.weight"):
            assert out[f"model.layers.{layer}.{rest}"].equal(origin[f"model.layers.{number}.{rest}"])
    assert out["model.embed_tokens.weight"].equal(a["model.embed_tokens.weight"])
    assert out["lm_head.weight"].equal(b["lm_head.weight"])
    assert out["model.norm.weight"].equal(b["model.norm.weight"])
    config = settings(models / "out")
    assert config["num_hidden_layers"] == 6
    assert config["layer_types"] == ["full", "slid", "full", "slid", "slid", "full"]
    assert "layers 0 to 2, 1 to 3 of `../b`" in (models / "out" / "README.md").read_text()
    assert (models / "out" / "mergekit_config.yml").exists()


def test_transformers_loads_a_stack(models: Path) -> None:
    transformers = pytest.importorskip("transformers")
    merge({"method": "linear", "sources": [{"path": "a", "stack": STACK}]}, models / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(models / "out")
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert len(model.model.layers) == 6


def test_a_stack_is_verified_and_its_record_repeats_it(models: Path) -> None:
    recipe = {
        "method": "task_arithmetic",
        "base": "base",
        "base_stack": [{"layers": [0, 3]}, {"layers": [1, 4]}],
        "sources": [{"path": "a", "stack": STACK}, {"path": "b", "stack": [{"layers": [0, 3]}, {"layers": [1, 4]}]}],
        "scale": 0.5,
    }
    merge(recipe, models / "out")
    found = verify(models / "out")
    assert found.equal
    assert not found.changed
    record = json.loads((models / "out" / "mmgrid.json").read_text())
    files = [sorted(entry["files"]) for entry in record["sources"].values()]
    assert ["1/model.safetensors", "model.safetensors"] in files
    out, a, b, base = (loaded(models / name) for name in ("out", "a", "b", "base"))
    name, inner = "model.layers.3.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    torch.testing.assert_close(out[name], base[inner] + 0.5 * 2 * (b[inner] - base[inner]))
    outer = "model.embed_tokens.weight"
    torch.testing.assert_close(out[outer], base[outer] + 0.5 * (a[outer] + b[outer] - 2 * base[outer]))
    (models / "b").rename(models / "c")
    assert any("the stack of" in missing for missing in verify(models / "out").missing)


def test_the_same_layers_in_another_order_are_another_source(models: Path) -> None:
    names = set()
    for stack in ([], STACK, [{"layers": [0, 4]}, {"path": "b", "layers": [1, 4]}]):
        merge({"method": "linear", "sources": [{"path": "a", "stack": stack}]}, models / f"out{len(names)}")
        record = json.loads((models / f"out{len(names)}" / "mmgrid.json").read_text())
        names |= set(record["sources"])
    assert len(names) == 3


def test_towers_have_their_own_layers(models: Path) -> None:
    def towers(seed: int, layers: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        names = [f"{tower}.layers.{n}.weight" for tower in ("item_tower", "user_tower") for n in range(layers)]
        names += ["item_tower.embed.weight", "user_tower.norm.weight", "head.weight"]
        return {name: torch.randn(3, generator=generator) for name in names}

    for name, seed in (("one", 1), ("two", 2)):
        (models / name).mkdir()
        save_file(towers(seed, 2), models / name / "model.safetensors")
    stack = [{"path": "two", "layers": [0, 1], "of": "user_tower.layers"}]
    merge({"method": "linear", "sources": [{"path": "one", "stack": stack}]}, models / "out")
    out, one, two = (loaded(models / name) for name in ("out", "one", "two"))
    assert sorted(out) == sorted(set(one) - {"user_tower.layers.1.weight"})
    for name, tensor in out.items():
        origin = two if name.startswith("user_tower") else one
        assert tensor.equal(origin[name]), name
    with pytest.raises(
        MergeError, match=r"several kinds: item_tower\.layers, user_tower\.layers; choose one with `of`"
    ):
        merge({"method": "linear", "sources": [{"path": "one", "stack": [{"layers": [0, 1]}]}]}, models / "no")


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ([{"layers": [0, 5]}], r"layers \[0, 5\] of a: the model has layers 0 to 3"),
        ([{"layers": [3, 2]}], "the one after the last"),
        ([{"layers": [0, 1], "of": "blocks"}], "no layers called blocks; known: model.layers"),
        ([{"layer": [0, 1]}], r"sources.0.stack.0.layer: unknown key; did you mean layers\?"),
        ([{"layers": [-1, 1]}], "greater than or equal to 0"),
    ],
)
def test_layers_that_do_not_exist_are_refused(stack: Any, words: str, models: Path) -> None:
    with pytest.raises(MergeError, match=words):
        merge({"method": "linear", "sources": [{"path": "a", "name": "a", "stack": stack}]}, models / "out")


def test_sources_with_other_numbers_of_layers_are_refused(models: Path) -> None:
    sources = [{"path": "a", "stack": STACK}, {"path": "b"}]
    with pytest.raises(MergeError, match="lacks model.layers.4"):
        merge({"method": "linear", "sources": sources}, models / "out")


def test_paths_of_a_stack_are_anchored(models: Path) -> None:
    (models / "recipe.yml").write_text(json.dumps({"method": "linear", "sources": [{"path": "a", "stack": STACK}]}))
    recipe = MergeRecipe.load(models / "recipe.yml")
    assert recipe.sources[0].stack[1].path == models / "b"
