"""Every key, every kind of token row, every method and parameter that the installed mergekit knows has its meaning here."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from kits.tiny_llama import tiny_llama
from mmgrid.merging.mergekit import read_mergekit
from mmgrid.merging.mergekit.meanings import METHODS
from mmgrid.merging.models.token_tensors import holds_vocabulary

pytest.importorskip("mergekit", reason="mergekit is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of mergekit's imports

MODELS = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]"
LINEAR = f"merge_method: linear\n{MODELS}\n"
TOKENS = """
    tokenizer:
      source: union
      pad_to_multiple_of: 8
      tokens:
        hello: {source: {kind: model_token, model: a, token: hello}, force: true}
        world: {source: {kind: model_token, model: a, token_id: 3}}
        new: {source: {kind: zero}}
"""
SLICES = """
    merge_method: linear
    base_model: base
    slices:
      - sources: [{model: a, layer_range: [0, 4], parameters: {weight: 1}}]
        base_model: base
        residual_weight: 0.5
        parameters: {weight: 1}
"""
MODULES = """
    merge_method: linear
    modules:
      default: {models: [{model: a, parameters: {weight: 1}}], parameters: {normalize: true}}
"""
# mergekit's class → its keys' place in these files. Together the files have all keys of the class.
PLACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "MergeConfiguration": (
        "",
        (
            f"{LINEAR}parameters: {{normalize: true}}\ndtype: float32\nout_dtype: float32",
            f"{LINEAR}tokenizer_source: union\nchat_template: auto",
            f"{LINEAR}{inspect.cleandoc(TOKENS)}",
            inspect.cleandoc(SLICES),
            inspect.cleandoc(MODULES),
        ),
    ),
    "InputModelDefinition": ("models.0", (LINEAR,)),
    "OutputModuleDefinition": (
        "modules.default",
        (
            inspect.cleandoc(MODULES),
            "merge_method: linear\nmodules: {default: {slices: [{sources: [{model: a, layer_range: [0, 4], "
            "parameters: {weight: 1}}]}]}}",
        ),
    ),
    "OutputSliceDefinition": ("slices.0", (inspect.cleandoc(SLICES),)),
    "InputSliceDefinition": ("slices.0.sources.0", (inspect.cleandoc(SLICES),)),
    "ConditionalParameter": (
        "models.0.parameters.weight.0",
        ("merge_method: linear\nmodels: [{model: a, parameters: {weight: [{filter: mlp, value: 1}, {value: 2}]}}]",),
    ),
    "ModelReference": (
        "models.0.model",
        (
            "merge_method: linear\nmodels: [{model: {model: {path: a}, lora: null, override_architecture: null}, "
            "parameters: {weight: 1}}]",
        ),
    ),
    "ModelPath": (
        "models.0.model.model",
        ("merge_method: linear\nmodels: [{model: {model: {path: a, revision: null}}, parameters: {weight: 1}}]",),
    ),
    "TokenizerConfig": ("tokenizer", (f"{LINEAR}{inspect.cleandoc(TOKENS)}",)),
    "TokenEmbeddingConfig": ("tokenizer.tokens.hello", (f"{LINEAR}{inspect.cleandoc(TOKENS)}",)),
    "ModelTokenEmbedding": (
        "tokenizer.tokens.*.source",
        (f"{LINEAR}{inspect.cleandoc(TOKENS)}",),
    ),
    "ZeroEmbedding": ("tokenizer.tokens.new.source", (f"{LINEAR}{inspect.cleandoc(TOKENS)}",)),
}


def _classes() -> dict[str, Any]:
    """mergekit's classes of a configuration, by name."""
    import mergekit.config
    import mergekit.tokenizer.config
    from pydantic import BaseModel

    found = {}
    for module in (mergekit.config, mergekit.tokenizer.config):
        for name, one in vars(module).items():
            if inspect.isclass(one) and issubclass(one, BaseModel) and one is not BaseModel and name != "ConfigReader":
                found[name] = one
                found |= {
                    inner.__name__: inner
                    for field in one.model_fields.values()
                    for inner in (field.annotation, *get_args(field.annotation))
                    if inspect.isclass(inner) and issubclass(inner, BaseModel)
                }
    return found


def _keys_at(value: Any, path: list[str]) -> set[str]:
    if not path:
        return set(value) if isinstance(value, dict) else set()
    first, *rest = path
    if isinstance(value, list):
        return _keys_at(value[int(first)], rest)
    inner = list(value.values()) if first == "*" else [value[first]] if first in value else []
    return set().union(*(_keys_at(one, rest) for one in inner))


def test_every_class_of_a_configuration_has_its_place() -> None:
    assert set(_classes()) == set(PLACES)


@pytest.mark.parametrize("name", PLACES)
def test_every_key_has_a_meaning(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, files = PLACES[name]
    used = set().union(*(_keys_at(yaml.safe_load(file), path.split(".") if path else []) for file in files))
    assert used == set(_classes()[name].model_fields)
    base = tiny_llama(tmp_path / "base", 0)
    for seed, model in enumerate("ab", 1):
        tiny_llama(tmp_path / model, seed, near=base)
    monkeypatch.chdir(tmp_path)
    for number, file in enumerate(files):
        (tmp_path / f"{number}.yml").write_text(file)
        notes = read_mergekit(tmp_path / f"{number}.yml").notes
        assert not [note for note in notes if "is not a key" in note or "outside of parameters" in note]


def test_every_method_and_every_parameter_has_a_meaning() -> None:
    from mergekit.merge_methods.registry import registered_methods

    theirs = {one.spec.name: {parameter.name for parameter in one.spec.parameters} for one in registered_methods()}
    ours = {name: {parameter.name for parameter in method.parameters} for name, method in METHODS.items()}
    assert set(theirs) == set(ours)
    assert {name: sorted(keys - ours[name]) for name, keys in theirs.items() if keys - ours[name]} == {}


def test_token_tensors_of_all_architectures_are_recognised_by_their_names() -> None:
    import mergekit.architecture

    known, per_token = set(), set()
    for file in sorted((Path(mergekit.architecture.__file__).parents[1] / "_data" / "architectures").glob("*.json")):
        for weight in _weights(json.loads(file.read_text())):
            names = {weight["name"], *(weight.get("aliases") or ()), *(weight.get("tied_names") or ())}
            known |= names
            per_token |= names if "vocabulary_axis" in weight else set()
    assert len(known) > 500
    assert len(per_token) > 30
    numbered = {
        name for name in per_token if name.startswith("layers.${num_layers}.linear.")
    }  # phi-1: a layer like any
    assert {name for name in known if holds_vocabulary(name)} == per_token - numbered


def _weights(part: Any) -> Iterator[dict[str, Any]]:
    """What describes a tensor, anywhere in an architecture of mergekit."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and isinstance(part.get("name"), str) and "architectures" not in part:
        yield part
    for each in inner:
        yield from _weights(each)
