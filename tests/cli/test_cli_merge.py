"""The commands on models: merge, methods, diff."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from kits.tiny_grid import bytes_below, mmgrid
from kits.tiny_llama import loaded, tiny_llama, tiny_llamas
from mmgrid.merging import METHODS, merge

pytestmark = pytest.mark.smoke

NO_TORCH = """
import sys
from mmgrid.cli.main import main
sys.argv = ["mmgrid", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
for_others = {{"torch", "transformers", "peft", "polars", "mergekit", "huggingface_hub.utils", "rich.progress"}}
loaded = {{*for_others, "mmgrid.merging.models.family.member"}} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders `base`, `a`, `b` in the working folder."""
    monkeypatch.chdir(tmp_path)
    return tiny_llamas(tmp_path)


def _write(models: Path, **changes: object) -> Path:
    sources = [{"name": name, "path": name, "weight": 0.5} for name in "ab"]
    recipe = {"method": "ties", "base": "base", "sources": sources, "options": {"density": 0.25}, **changes}
    (models / "recipe.yml").write_text(yaml.safe_dump(recipe))
    return models / "recipe.yml"


def test_a_recipe(models: Path) -> None:
    answer = mmgrid("merge", _write(models), "out")
    assert (answer.code, answer.err) == (0, "")
    assert "39 tensors merged (10,384 parameters) in " in answer.out
    assert answer.out.startswith("ties of a (0.5), b (0.5) on ")
    assert "disk" not in answer.out
    assert re.search(r"a +model +25\.00%", answer.out)
    merge(models / "recipe.yml", models / "expected")
    assert (models / "out" / "model.safetensors").read_bytes() == (
        models / "expected" / "model.safetensors"
    ).read_bytes()


def test_options_are_equivalent_to_a_recipe(models: Path) -> None:
    mmgrid("merge", _write(models), "-o", "out")
    given = [
        "--method",
        "ties",
        "--base",
        "base",
        "--model",
        "a=a:0.5",
        "--model",
        "b=b:0.5",
        "--option",
        "density=0.25",
    ]
    answer = mmgrid("merge", *given, "-o", models / "again", "--workers", 2)
    assert answer.code == 0
    assert bytes_below(models / "again") == bytes_below(models / "out")


def test_values_on_the_command_line(models: Path) -> None:
    given = ["--method", "ties", "--base", "base", "--model", "one=a", "--model", "b:-0.25", "--no-digests"]
    values = ["--option", "scope=tensor", "--option", "density={one: 0.5, b: 0.1}", "--option", "normalise=false"]
    answer = mmgrid("merge", *given, *values, "--scale", "0.5,1", "--seed", 7, "--dtype", "bfloat16", "out", "--json")
    assert answer.code == 0, answer.err
    recipe = json.loads((models / "out" / "mmgrid.json").read_text())["recipe"]
    assert [(each["name"], each["weight"]) for each in recipe["sources"]] == [("one", 1.0), ("b", -0.25)]
    assert recipe["options"]["density"] == {"one": 0.5, "b": 0.1}
    assert (recipe["scale"], recipe["seed"], recipe["dtype"]) == ([0.5, 1.0], 7, "bfloat16")
    facts = answer.json
    assert (facts["parameters"], len(facts["merged"]), facts["notes"]) == (10_384, 39, [])
    assert facts["out"] == str(models / "out")
    assert facts["fraction_of_bound"] > 0


def test_the_command_line_overrides_the_recipe(models: Path) -> None:
    answer = mmgrid("merge", _write(models, seed=1), "out", "--scale", 0, "--seed", 3)
    assert answer.code == 0
    recipe = json.loads((models / "out" / "mmgrid.json").read_text())["recipe"]
    assert (recipe["scale"], recipe["seed"], recipe["dtype"]) == (0.0, 3, "source")
    base = loaded(models / "base")
    assert all(tensor.equal(base[name]) for name, tensor in loaded(models / "out").items())


def test_folders_whose_names_look_like_settings(models: Path) -> None:
    (models / "a").rename(models / "x=a:0.5")
    answer = mmgrid("merge", "--method", "linear", "--model", "x=a:0.5", "--model", "b", "out")
    assert answer.code == 0, answer.err
    sources = json.loads((models / "out" / "mmgrid.json").read_text())["recipe"]["sources"]
    assert [(each["path"], each["weight"]) for each in sources] == [("x=a:0.5", 1.0), ("b", 1.0)]


def test_a_folder_named_like_a_merge_is_no_named_source(models: Path) -> None:
    """Merges of a grid are called `linear=a+b`; a weight behind it makes it no name."""
    (models / "a").rename(models / "linear=a+b")
    answer = mmgrid("merge", "--method", "linear", "--model", "linear=a+b:0.25", "--model", "c=b:0.75", "-o", "out")
    assert answer.code == 0, answer.err
    sources = json.loads((models / "out" / "mmgrid.json").read_text())["recipe"]["sources"]
    assert [(source["path"], source["weight"]) for source in sources] == [("linear=a+b", 0.25), ("b", 0.75)]
    assert sources[1]["name"] == "c"
    answer = mmgrid("merge", "--method", "linear", "--model", "b:half", "-o", "out2")
    assert "b:half: 'half' is no weight, which is a finite number" in answer.err
    for odd in ("", "=b", "b=", ":0.5"):
        answer = mmgrid("merge", "--method", "linear", "--model", odd, "-o", "out2")
        assert f"{odd!r}: must be [NAME=]MODEL[:WEIGHT]" in answer.err
    answer = mmgrid("merge", "--method", "linear", "--model", "b=0.5", "out")
    assert "b=0.5: a weight stands behind a colon: b:0.5" in " ".join(answer.err.split())
    twice = ["--option", "normalise=true", "--option", "normalise=false"]
    answer = mmgrid("merge", "--method", "linear", "--model", "b", *twice, "out")
    assert "normalise is given twice" in answer.err


def test_a_vocabulary_and_configs_from_the_command_line(models: Path) -> None:
    for name, words in (("a", range(48)), ("b", reversed(range(48)))):
        tokens = {f"t{n}": row for row, n in enumerate(words)}
        tiny_llama(models / name, 1, near=models / "base", vocabulary=tokens)
    both = ("merge", "--method", "linear", "--model", "a", "--model", "other=b", "-o")
    assert "tokenizer of other: 48 tokens have other rows than in a" in mmgrid(*both, "out").err
    answer = mmgrid(*both, "out", "--vocabulary", "other")
    assert answer.code == 0, answer.err
    found, expected = (json.loads((models / name / "tokenizer.json").read_text())["model"] for name in ("out", "b"))
    assert found == expected
    answer = mmgrid(*both, "noted", "--allow-config-mismatch")
    assert "note: tokenizer of other: 48 tokens have other rows" in answer.out


def test_a_mergekit_file_with_several_merges(models: Path) -> None:
    name = next(path.name for path in sorted(models.iterdir()) if path.is_dir())
    text = f"name: first\nmerge_method: passthrough\nmodels: [{{model: {name}}}]\n---\n"
    (models / "config.yml").write_text(text + "merge_method: passthrough\nmodels: [{model: first}]\n")
    answer = mmgrid("merge", "--mergekit", "config.yml", "out")
    assert answer.code == 0, answer.err
    assert (models / "out" / "model.safetensors").is_file()
    assert (models / "out-parts" / "first" / "model.safetensors").is_file()
    answer = mmgrid("merge", "--mergekit", "config.yml", "out2", "--plan")
    assert answer.code == 2
    assert "holds several merges" in " ".join(answer.err.split())


def test_a_mergekit_file(models: Path) -> None:
    config = {"merge_method": "dare_ties", "base_model": "base", "parameters": {"weight": 0.5, "density": 0.5}}
    (models / "config.yml").write_text(yaml.safe_dump({**config, "models": [{"model": "a"}, {"model": "b"}]}))
    answer = mmgrid("merge", "--mergekit", "config.yml", "out", "--seed", 5)
    assert answer.code == 0
    assert answer.out.startswith("note: dare_ties: elements are drawn by seed")
    recipe = json.loads((models / "out" / "mmgrid.json").read_text())["recipe"]
    assert (recipe["method"], recipe["seed"], recipe["options"]["inner"]) == ("dare", 5, "ties")
    (models / "config.yml").write_text("merge_method: fisher\nmodels: [{model: a}]")
    answer = mmgrid("merge", "--mergekit", "config.yml", "out2")
    assert answer.code == 1
    assert answer.err.startswith("mmgrid: config.yml, line 1: merge_method: 'fisher' is not supported")
    answer = mmgrid("merge", "config.yml", "out2")
    assert (answer.code, answer.err) == (1, "mmgrid: config.yml: is a recipe of mergekit; read it with --mergekit\n")


def test_a_plan_writes_nothing(models: Path) -> None:
    recipe = _write(models)
    before = bytes_below(models)
    answer = mmgrid("merge", "--plan", recipe)
    assert answer.code == 0
    for words in (
        "39 merged, 0 kept, 0 dropped",
        "10,384",
        "125 kB, 2 times over",
        "41.5 kB",
        "as measured now",
        "at least",
    ):
        assert words in answer.out, words
    assert bytes_below(models) == before
    facts = mmgrid("merge", "--plan", recipe, "new/out", "--json").json
    assert facts["bytes_read"] == 3 * facts["bytes_written"] == 3 * 4 * 10_384
    assert facts["bound"] > 0
    assert bytes_below(models) == before
    assert not (models / "new").exists()


def test_verifying(models: Path) -> None:
    mmgrid("merge", _write(models), "out")
    answer = mmgrid("merge", "--verify", "out")
    assert (answer.code, answer.out) == (0, f"{models}/out: all 41.5 kB equal the result of the recipe\n")
    facts = mmgrid("merge", "--verify", "out", "--json").json
    assert (facts["equal"], facts["compared"], facts["first"]) == (True, 4 * 10_384, None)
    tensors = load_file(models / "a" / "model.safetensors")
    tensors["lm_head.weight"][2, 3] += 100
    save_file(tensors, models / "a" / "model.safetensors")
    answer = mmgrid("merge", "--verify", "out")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert lines[0] == "changed since the merge: a: model.safetensors"
    assert lines[1].startswith("first difference: lm_head.weight [")
    assert lines[2].startswith("elements that differ: ")
    (models / "a").rename(models / "elsewhere")
    answer = mmgrid("merge", "--verify", "out")
    assert (answer.code, answer.out) == (1, f"missing: source 'a': {models}/a\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["merge"], "needs one recipe, --method or --mergekit"),
        (["merge", "--method", "ties", "--mergekit", "x.yml", "out"], "not both"),
        (["merge", "recipe.yml"], "name the new folder"),
        (["merge", "recipe.yml", "out", "more"], "more: one recipe and one output folder are enough"),
        (["merge", "recipe.yml", "out", "--model", "a"], "need --method"),
        (["merge", "--method", "linear", "out"], "name the models to merge"),
        (["merge", "--method", "linear", "--model", "a", "out", "--option", "density"], "must be KEY=VALUE"),
        (["merge", "--method", "linear", "--model", "a", "out", "--option", "density=["], "density=["),
        (["merge", "recipe.yml", "out", "--scale", "much"], "must be a number"),
        (["merge", "--verify", "out", "recipe.yml"], "takes a merged folder and nothing else"),
        (["diff", "a"], "needs two models or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(arguments: list[str], words: str, models: Path) -> None:
    _write(models)
    before = bytes_below(models)
    answer = mmgrid(*arguments)
    assert answer.code == 2
    assert words in " ".join(answer.err.split())
    assert bytes_below(models) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["merge", "nowhere.yml", "out"], "nowhere.yml: does not exist"),
        (["merge", "recipe.yml", "a"], "sources are never changed"),
        (["merge", "recipe.yml", "taken"], "exists already and is not an empty folder"),
        (["merge", "--method", "tise", "--model", "a", "out"], "unknown merge method 'tise'; did you mean ties?"),
        (["merge", "--method", "ties", "--model", "a", "out"], "ties: needs a base"),
        (["merge", "--method", "linear", "--model", "c", "out"], "/c: does not exist"),
        (["merge", "recipe.yml", "out", "--dtype", "int8"], "dtype: should be 'source'"),
        (["merge", "--verify", "a"], "has no mmgrid.json"),
        (["methods", "tise"], "unknown merge method 'tise'; did you mean ties?"),
        (["diff", "a", "nowhere"], "nowhere: does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_impossible_merge_is_reported_in_one_line(arguments: list[str], words: str, models: Path) -> None:
    _write(models)
    (models / "taken").mkdir()
    (models / "taken" / "file").touch()
    before = bytes_below(models)
    answer = mmgrid(*arguments)
    assert (answer.code, answer.out) == (1, "")
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert bytes_below(models) == before


def test_methods_are_listed_and_explained() -> None:
    answer = mmgrid("methods")
    assert [line.split()[0] for line in answer.out.splitlines()] == list(METHODS)
    assert {each["method"] for each in mmgrid("methods", "--json").json} == set(METHODS)
    for name in METHODS:
        answer = mmgrid("methods", name)
        assert answer.code == 0
        facts = mmgrid("methods", name, "--json").json
        assert set(METHODS[name].options.model_fields) == {each["option"] for each in facts["options"]}
        assert all(each["about"] for each in facts["options"]), facts["options"]
        for each in facts["options"]:
            assert each["option"] in answer.out
    text = mmgrid("methods", "ties").out
    for words in (
        "TIES-Merging",
        "number ≥ 0, ≤ 1, or per source",
        "model | tower | tensor",
        "preset subspace: drop = 0.1",
    ):
        assert words in text


def test_diff(models: Path) -> None:
    answer = mmgrid("diff", "a", "b", "--base", "base")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "A = a, B = b: task vectors"
    assert [line.split()[0] for line in lines[1:]] == ["layer", "0", "1", "2", "3", "outside", "all"]
    assert lines[-1].split()[1] == "10,384"
    assert "lm_head.weight" in mmgrid("diff", "a", "b", "--tensors").out
    facts = mmgrid("diff", "a", "b", "base", "--json").json
    assert facts["models"] == ["a", "b", "base"]
    assert [pair["models"] for pair in facts["whole"]] == [["a", "b"], ["a", "base"], ["b", "base"]]
    a, b = (torch.cat([t.double().flatten() for t in loaded(models / name).values()]) for name in "ab")
    assert facts["whole"][0]["distance"] == pytest.approx((a - b).norm().item())
    assert facts["whole"][0]["cosine"] == pytest.approx((a @ b / a.norm() / b.norm()).item())
    same = mmgrid("diff", "a", "a", "--base", "a", "--json").json
    assert same["whole"][0]["cosine"] is None
    assert same["whole"][0]["equal"] == 1.0
    save_file({"ids": torch.arange(3), "w": torch.ones(2)}, models / "one.safetensors")
    save_file({"ids": torch.arange(4), "w": torch.ones(2), "v": torch.ones(1)}, models / "two.safetensors")
    text = mmgrid("diff", "one.safetensors", "two.safetensors").out
    assert "v: not compared: one.safetensors lacks it" in text
    assert "ids: not compared: shapes differ" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["merge", "recipe.yml", "out"],
        ["merge", "--plan", "recipe.yml"],
        ["merge", "--mergekit", "config.yml", "out"],
        ["diff", "a", "b", "--base", "base"],
        ["methods"],
        ["methods", "ties"],
    ],
    ids=" ".join,
)
def test_neither_torch_nor_transformers_is_loaded(arguments: list[str], models: Path) -> None:
    _write(models)
    config = {"merge_method": "slerp", "base_model": "base", "parameters": {"t": [0, 1]}, "models": [{"model": "a"}]}
    (models / "config.yml").write_text(yaml.safe_dump(config))
    code = NO_TORCH.format(arguments=arguments)
    subprocess.run([sys.executable, "-c", code], cwd=models, timeout=120, check=True)


def test_an_adapter_from_the_command_line(models: Path) -> None:
    (models / "adapter").mkdir()
    module = "base_model.model.model.layers.0.mlp.up_proj"
    factors = {f"{module}.lora_A.weight": torch.ones(1, 16), f"{module}.lora_B.weight": torch.ones(24, 1)}
    save_file(factors, models / "adapter" / "adapter_model.safetensors")
    (models / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2}))
    answer = mmgrid("merge", "--method", "task_arithmetic", "--base", "base", "--model", "adapter:0.5", "out")
    assert answer.code == 0, answer.err
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.allclose(loaded(models / "out")[name], loaded(models / "base")[name] + 1.0, atol=1e-6)
