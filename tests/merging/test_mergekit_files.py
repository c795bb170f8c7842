"""mergekit's files, read with mergekit's semantics, and the files written for mergekit.

Where mergekit is installed, it runs every file on the same models, and the results are compared.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from kits.mergekit_runs import assert_same, by_mergekit, by_us, inject, mergekits_draws
from kits.tiny_llama import loaded, tiny_llama, tiny_llamas
from mmgrid.merging import METHODS, MergeError, MergeRecipe, merge
from mmgrid.merging.mergekit import read_mergekit, read_merges
from mmgrid.merging.mergekit.file import KEYS
from mmgrid.merging.mergekit.meanings import METHODS as KIT_METHODS

EXAMPLES = os.environ.get("MMGRID_MERGEKIT_EXAMPLES")  # a copy of mergekit's examples folder


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders `base`, `a`, `b`, `c` in the working folder; the last three near the first."""
    monkeypatch.chdir(tmp_path)
    return tiny_llamas(tmp_path, "abc")


SAME = {
    "linear": """
        models:
          - {model: a, parameters: {weight: 1.0}}
          - {model: b, parameters: {weight: 0.3}}
          - {model: c, parameters: {weight: 0.5}}
        merge_method: linear""",
    "linear, not normalised, one shared weight and one per model": """
        models: [{model: a}, {model: b, parameters: {weight: "1e-1"}}]
        merge_method: linear
        parameters: {weight: 0.7, normalize: false}""",
    "linear: the base is one of the models": """
        models: [{model: a}, {model: b}]
        base_model: base
        merge_method: linear
        parameters: {weight: 1}""",
    "linear over layers and filters": """
        models:
          - model: a
            parameters:
              weight:
                - {filter: self_attn, value: [0, 0.5, 1]}
                - {filter: layers.2.mlp, value: 2}
                - {value: 0.25}
          - {model: b, parameters: {weight: [1, 0.2]}}
        merge_method: linear""",
    "task arithmetic": """
        models:
          - {model: a, parameters: {weight: 0.6, density: 0.1}}
          - {model: b, parameters: {weight: -0.3}}
        base_model: base
        merge_method: task_arithmetic
        parameters: {lambda: 0.7, int8_mask: true}""",
    "task arithmetic with weights that add up to zero": """
        models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: -1}}]
        base_model: base
        merge_method: task_arithmetic
        parameters: {normalize: true, lambda: [0.2, 1, 0.4]}""",
    "ties": """
        models:
          - {model: a, parameters: {density: 0.5, weight: 0.5}}
          - {model: b, parameters: {density: 0.5, weight: 0.5}}
        base_model: base
        merge_method: ties
        parameters: {normalize: false, int8_mask: true}""",
    "ties with lists and filters": """
        models:
          - {model: a, parameters: {density: [1, 0.7, 0.1], weight: 1.0}}
          - {model: b, parameters: {density: 0.5, weight: [0, 0.3, 0.7, 1]}}
          - model: c
            parameters:
              density: 0.33
              weight: [{filter: mlp, value: 0.5}, {value: 0}]
        base_model: base
        merge_method: ties
        parameters: {normalize: true, int8_mask: true}""",
    "ties with all defaults, the base among the models": """
        models: [{model: base}, {model: a, parameters: {weight: 0.4}}, {model: c, parameters: {weight: -0.5}}]
        base_model: base
        merge_method: ties""",
    "ties scaled to the norm, with few elements": """
        models: [{model: a, parameters: {density: 0.01}}, {model: b, parameters: {density: [0.3, 1]}}, {model: c}]
        base_model: base
        merge_method: ties
        parameters: {weight: 0.5, rescale: true, density: 0.29}""",
    "breadcrumbs scaled to the norm, with shares that are no whole numbers": """
        models: [{model: a, parameters: {density: 0.77, gamma: 0.13}}, {model: b, parameters: {gamma: 0.5}}]
        base_model: base
        merge_method: breadcrumbs_ties
        parameters: {weight: 0.5, rescale: true, density: [0.7, 0.63]}""",
    "breadcrumbs": """
        models:
          - {model: a, parameters: {density: 0.75, gamma: 0.125}}
          - {model: b, parameters: {density: 0.5, weight: 2}}
        base_model: base
        merge_method: breadcrumbs
        parameters: {weight: 0.5, gamma: 0.25}""",
    "breadcrumbs with shares that leave no room for outliers": """
        models: [{model: a, parameters: {density: 0.75}}, {model: b}]
        base_model: base
        merge_method: breadcrumbs_ties
        parameters: {weight: 0.5, gamma: 0.5, lambda: 1.5, normalize: true}""",
    "dare that drops nothing": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: dare_linear
        parameters: {weight: [0.2, 0.9], normalize: true}""",
    "dare_ties that drops nothing": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: dare_ties
        parameters: {weight: 0.4, density: 1.0}""",
    "della that drops nothing": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: della
        parameters: {weight: 0.4, lambda: 1.1}""",
    "slerp": """
        models: [{model: a}]
        base_model: base
        merge_method: slerp
        parameters: {t: 0.3}""",
    "slerp over layers of slices": """
        slices:
          - sources:
              - {model: b, layer_range: [0, 4]}
              - {model: a, layer_range: [0, 4]}
        merge_method: slerp
        base_model: a
        parameters:
          t:
            - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
            - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
            - {value: 0.5}""",
    "slices with different settings": """
        slices:
          - sources:
              - {model: a, layer_range: [0, 1], parameters: {weight: 0.9}}
              - {model: b, layer_range: [0, 1], parameters: {weight: 0.3}}
          - sources:
              - {model: a, layer_range: [1, 4], parameters: {weight: [0.1, 0.8]}}
              - {model: b, layer_range: [1, 4]}
            parameters: {weight: 0.25}
        merge_method: linear""",
    "multislerp": """
        models: [{model: a}, {model: b, parameters: {weight: 0.2}}, {model: c}]
        merge_method: multislerp
        parameters: {weight: 1.0}""",
    "multislerp on a base": """
        models: [{model: a}, {model: b, parameters: {weight: 0.2}}, {model: c}]
        base_model: base
        merge_method: multislerp
        parameters: {weight: 0.5, normalize_weights: false, eps: 1e-7}""",
    "model stock": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: model_stock""",
    "model stock by filters": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: model_stock
        parameters: {filter_wise: [{filter: mlp, value: true}, {value: false}]}""",
    "nuslerp": """
        models: [{model: a, parameters: {weight: 0.3}}, {model: b, parameters: {weight: [0.2, 1]}}]
        merge_method: nuslerp""",
    "nuslerp on a base, by rows": """
        models: [{model: a}, {model: b}]
        base_model: base
        merge_method: nuslerp
        parameters: {weight: 1, nuslerp_flatten: 0.0}""",
    "nuslerp by columns, with weights that add up to zero": """
        models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: -1}}]
        merge_method: nuslerp
        parameters: {nuslerp_flatten: "no", nuslerp_row_wise: true}""",
    "karcher": """
        models: [{model: a}, {model: b}, {model: c}]
        merge_method: karcher
        parameters: {max_iter: "20", tol: 1e-6}""",
    "karcher: the base is one of the models": """
        models: [{model: a}, {model: b}]
        base_model: base
        merge_method: karcher""",
    "sce": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: sce
        parameters: {select_topk: [{filter: mlp, value: 0.25}, {value: 0.5}], int8_mask: true}""",
    "sce of all elements": """
        models: [{model: a}, {model: b}]
        base_model: base
        merge_method: sce""",
    "ram": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: ram
        parameters: {epsilon: 0.1}""",
    "ramplus_tl": """
        models: [{model: a}, {model: b}, {model: c}]
        base_model: base
        merge_method: ramplus_tl
        parameters: {epsilon: 0.15, r: [0.1, 0.9], alpha: 2}""",
    "nearswap": """
        models: [{model: a}]
        base_model: base
        merge_method: nearswap
        parameters: {t: [0.01, 0.1]}""",
    "arcee fusion": """
        models: [{model: a}]
        base_model: base
        merge_method: arcee_fusion""",
    "dare with every parameter": """
        models: [{model: a, parameters: {density: 1}}, {model: b, parameters: {weight: -0.5}}]
        base_model: base
        merge_method: dare_linear
        parameters: {weight: 0.5, density: "1", lambda: 2, normalize: 1.0, rescale: true, int8_mask: "yes"}""",
    "dare_ties with every parameter": """
        models: [{model: a, parameters: {density: 1}}, {model: b, parameters: {weight: -0.5}}]
        base_model: base
        merge_method: dare_ties
        parameters: {weight: 0.5, density: "1", lambda: 2, normalize: 1.0, rescale: true, int8_mask: "yes"}""",
    "della with every parameter": """
        models: [{model: a, parameters: {density: 1}}, {model: b, parameters: {weight: -0.5, epsilon: 0.2}}]
        base_model: base
        merge_method: della
        parameters: {weight: 0.5, density: 1, lambda: 2, normalize: false, rescale: true, int8_mask: true}""",
    "della_linear with every parameter": """
        models: [{model: a, parameters: {density: 1}}, {model: b, parameters: {weight: -0.2, epsilon: 0.2}}]
        base_model: base
        merge_method: della_linear
        parameters: {weight: 0.5, density: 1, lambda: 2, normalize: true, rescale: false, int8_mask: true}""",
    "breadcrumbs with every parameter": """
        models: [{model: a, parameters: {density: 0.5}}, {model: b, parameters: {weight: -0.2, gamma: 0.2}}]
        base_model: base
        merge_method: breadcrumbs
        parameters: {weight: 0.5, lambda: [1, 2], normalize: true, rescale: 1, int8_mask: true}""",
    "breadcrumbs_ties with every parameter": """
        models: [{model: a, parameters: {density: 0.5}}, {model: b, parameters: {weight: -0.2, gamma: 0.2}}]
        base_model: base
        merge_method: breadcrumbs_ties
        parameters: {weight: 0.5, lambda: [1, 2], normalize: true, rescale: 1, int8_mask: true}""",
    "ties with every parameter": """
        models: [{model: a, parameters: {density: 0.5}}, {model: b, parameters: {weight: -0.2}}]
        base_model: {model: {path: base}}
        merge_method: ties
        parameters: {weight: 0.5, lambda: [1, 2], normalize: off, rescale: 1, int8_mask: true}""",
    "a slice with a residual weight, which does nothing": """
        slices:
          - sources: [{model: a, layer_range: [0, 4]}]
            residual_weight: 0.5
        merge_method: passthrough
        dtype: float32""",
    "only the base": """
        models: [{model: base}]
        base_model: base
        merge_method: ties""",
    "passthrough": """
        models: [{model: a}]
        merge_method: passthrough
        parameters:
          scale: [{filter: o_proj, value: 0.5}, {filter: down_proj, value: 0.25}]""",
    "stacked layers of two models": """
        slices:
          - sources: [{model: a, layer_range: [0, 3]}]
          - sources: [{model: b, layer_range: [1, 4]}]
        merge_method: passthrough""",
    "repeated layers, scaled": """
        slices:
          - sources: [{model: a, layer_range: [0, 2]}]
          - sources: [{model: a, layer_range: [1, 3]}]
            parameters: {scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: 0}, {value: 1}]}
          - sources: [{model: a, layer_range: [2, 4]}]
        merge_method: passthrough""",
    "layers left out": """
        slices:
          - sources: [{model: a, layer_range: [0, 1]}]
          - sources: [{model: a, layer_range: [3, 4]}]
        merge_method: passthrough""",
    "moved layers, with filters on the numbers that they have in each model": """
        slices:
          - sources:
              - {model: a, layer_range: [2, 4], parameters: {weight: [{filter: layers.3., value: 2}, {value: 1}]}}
              - {model: b, layer_range: [0, 2], parameters: {weight: [{filter: layers.0., value: 3}, {value: 0.5}]}}
          - sources:
              - {model: a, layer_range: [0, 1]}
              - {model: b, layer_range: [3, 4]}
            parameters: {weight: 0.7}
        merge_method: linear
        parameters: {normalize: false}""",
    "moved layers of sources and base": """
        slices:
          - sources:
              - {model: base, layer_range: [1, 3]}
              - {model: a, layer_range: [2, 4], parameters: {density: 0.5}}
              - {model: b, layer_range: [0, 2]}
          - sources:
              - {model: a, layer_range: [0, 1]}
              - {model: b, layer_range: [0, 1]}
              - {model: base, layer_range: [0, 1]}
            parameters: {density: 0.25}
        merge_method: ties
        base_model: base
        parameters: {weight: [0.4, 0.9]}""",
    "slices with their own base": """
        slices:
          - base_model: a
            sources:
              - {model: a, layer_range: [0, 2]}
              - {model: b, layer_range: [0, 2]}
          - base_model: c
            sources:
              - {model: b, layer_range: [2, 4]}
              - {model: c, layer_range: [2, 4]}
            parameters: {t: [0, 1]}
        merge_method: slerp
        parameters: {t: 0.3}""",
    "task vectors from the base of each slice": """
        slices:
          - base_model: base
            sources:
              - {model: base, layer_range: [0, 2]}
              - {model: b, layer_range: [0, 2]}
          - base_model: c
            sources:
              - {model: a, layer_range: [2, 4]}
              - {model: c, layer_range: [2, 4]}
        merge_method: task_arithmetic
        parameters: {weight: 0.6}""",
    "slices with other numbers of models": """
        slices:
          - sources:
              - {model: a, layer_range: [0, 2]}
              - {model: b, layer_range: [0, 2]}
              - {model: c, layer_range: [1, 3]}
          - sources: [{model: c, layer_range: [2, 4]}]
        merge_method: linear
        parameters: {weight: [0.5, 0.8]}""",
    "a module with slices": """
        modules:
          default:
            slices:
              - sources: [{model: a, layer_range: [0, 4]}]
              - sources: [{model: b, layer_range: [2, 4]}]
            parameters: {scale: 0.5}
        merge_method: passthrough
        parameters: {scale: 2}""",
    "a base of a method that has none": """
        slices:
          - sources: [{model: a, layer_range: [0, 4]}]
        base_model: base
        merge_method: karcher""",
    "a module, and a model in mergekit's long form": """
        modules:
          default:
            models: [{model: {model: {path: a, revision: null}, lora: null}}, {model: b}]
            parameters: {weight: 0.5}
        merge_method: linear
        parameters: {weight: 2.0, normalize: false}""",
    "another type": """
        models: [{model: a}, {model: b}]
        base_model: base
        merge_method: task_arithmetic
        parameters: {weight: 0.5}
        dtype: float32
        out_dtype: bfloat16""",
    "numbers and truth values in other forms": """
        slices:
          - sources:
              - {model: a, layer_range: ["0", 2.0]}
              - {model: b, layer_range: [false, "2"]}
          - sources:
              - {model: a, layer_range: [2, 4], parameters: {weight: "3e-1"}}
              - {model: b, layer_range: [2, 4]}
        merge_method: linear
        dtype: ""
        parameters: {normalize: "n", weight: true}""",
    "a slice without layers, whose model gives the head": """
        slices:
          - sources: [{model: a, layer_range: [0, 4]}]
          - sources: [{model: b, layer_range: [2, 2]}]
        merge_method: passthrough""",
    "one tokenizer": """
        models: [{model: a}, {model: b}]
        base_model: base
        merge_method: task_arithmetic
        parameters: {weight: 0.5}
        out_dtype: float16""",
}


@pytest.mark.parametrize("config", SAME.values(), ids=SAME.keys())
def test_gives_the_same_weights_as_mergekit(config: str, models: Path) -> None:
    ours = by_us(config, models)
    assert_same(ours, by_mergekit(config, models / "theirs"))
    numbers = [
        json.loads((models / name / "config.json").read_text())["num_hidden_layers"] for name in ("ours", "theirs")
    ]
    assert numbers[0] == numbers[1] == len({name.split(".")[2] for name in ours if ".layers." in name})


STACKED = [name for name, text in SAME.items() if "slices:" in text and "layer_range" in text]


@pytest.mark.parametrize("name", STACKED)
def test_the_file_of_a_stack_gives_the_same_weights_again(
    name: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, config = by_us(SAME[name], models), models / "ours" / "mergekit_config.yml"
    if name in WITHOUT_A_FILE:
        assert not config.exists()
        return
    merge(read_mergekit(config).recipe, models / "again")
    assert_same(loaded(models / "again"), ours, 3e-7)
    monkeypatch.chdir(models / "ours")
    assert_same(ours, by_mergekit(config, models / "theirs"))


# Their settings differ between tensors, or a part has no layers.
WITHOUT_A_FILE = (
    "repeated layers, scaled",
    "moved layers, with filters on the numbers that they have in each model",
    "moved layers of sources and base",
    "slices with other numbers of models",
    "a slice without layers, whose model gives the head",
)


WRITTEN: dict[str, dict[str, Any]] = {
    "linear": {"method": "linear", "weights": {"a": 2.0, "b": 0.5}},
    "velocity": {"method": "velocity", "options": {"step": 0.3}},
    "decay": {"method": "decay"},
    "task_arithmetic": {"method": "task_arithmetic", "scale": 0.7, "weights": {"a": -0.3}},
    "scale over depth": {"method": "task_arithmetic", "scale": [0.2, 0.5, 1.0]},
    "rules": {
        "method": "ties",
        "options": {"scope": "tensor", "density": {"a": 0.5, "b": 0.25}},
        "rules": [
            {"tensors": "*.mlp.*", "weights": {"a": 0.1}, "scale": 2.0},
            {"tensors": "model.layers.3.*", "options": {"scope": "tensor", "density": 0.75, "normalise": False}},
        ],
    },
    "rules with one sum": {
        "method": "ties",
        "options": {"scope": "tensor", "density": {"a": 0.5, "b": 0.25}},
        "rules": [{"tensors": ["*.mlp.*", "lm_head.weight"], "weights": {"a": 0.1}, "scale": 2.0}],
    },
    "breadcrumbs": {"method": "breadcrumbs", "options": {"density": 0.5, "gamma": 0.25, "inner": "ties"}},
    "dare": {"method": "dare", "options": {"drop": 0, "inner": "ties", "normalise": True}},
    "mask": {"method": "mask", "options": {"drop": 0}},
    "della": {"method": "della", "options": {"density": 1, "epsilon": 0, "inner": "linear", "normalise": False}},
    "slerp": {"method": "slerp", "weights": {"a": 0.7, "b": 0.3}},
    "multislerp": {"method": "multislerp", "weights": {"a": 0.7, "b": 0.4}, "options": {"normalise": False}},
    "model_stock": {"method": "model_stock"},
    "model_stock_filters": {"method": "model_stock_filters"},
    "nuslerp": {"method": "nuslerp", "weights": {"a": 0.7}, "options": {"along": "columns"}},
    "karcher": {"method": "karcher", "options": {"max_iter": 3}},
    "sce": {"method": "sce", "options": {"select": 0.5, "floor": 1e-6}},
    "ram": {"method": "ram", "options": {"epsilon": 0.1}},
    "ram_plus": {"method": "ram_plus", "options": {"epsilon": 0.1, "cap": 2.0}},
    "another type": {"method": "linear", "dtype": "bfloat16"},
}


# Keys that change no tensor, or that other tests compare with mergekit: test_vocabulary.py for tokenizers.
ELSEWHERE = {"tokenizer", "tokenizer_source", "chat_template", "name"}


def test_these_files_use_every_key_and_every_parameter() -> None:
    keys, parameters = set(), set()

    def look(value: Any, method: str) -> None:
        if isinstance(value, Mapping):
            parameters.update((method, name) for name in value.get("parameters") or {})
            keys.update(value)
            for inner in value.values():
                look(inner, method)
        elif isinstance(value, list):
            for inner in value:
                look(inner, method)

    for text in SAME.values():
        look(value := yaml.safe_load(text), value["merge_method"])
    wanted = {(name, parameter.name) for name, method in KIT_METHODS.items() for parameter in method.parameters}
    odd = {("task_arithmetic", "rescale"), ("task_arithmetic", "density")}  # known, and without effect
    assert wanted - parameters - odd == set()
    assert set(KEYS) - keys == ELSEWHERE
    assert {"residual_weight", "layer_range", "lora", "revision", "filter"} <= keys
    assert len(SAME) >= 40


def _recipe(given: Mapping[str, Any]) -> MergeRecipe:
    weights, method = given.get("weights", {}), given["method"]
    sources = [{"path": name, "name": name, "weight": weights.get(name)} for name in "ab"]
    base = "base" if METHODS[method].base == "required" else None
    kept = {key: value for key, value in given.items() if key != "weights"}
    return MergeRecipe.load({**kept, "sources": sources, "base": base})


@pytest.mark.parametrize("given", WRITTEN.values(), ids=WRITTEN.keys())
def test_mergekit_gives_the_same_weights_from_the_written_file(
    given: dict[str, Any], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(_recipe(given), models / "ours")
    ours, config = loaded(models / "ours"), models / "ours" / "mergekit_config.yml"
    again = read_mergekit(config)
    merge(again.recipe, models / "again")
    assert_same(loaded(models / "again"), ours, 3e-7)
    monkeypatch.chdir(models / "ours")
    assert_same(ours, by_mergekit(config, models / "theirs"))


def test_a_written_file_can_be_read_from_any_working_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(_recipe({"method": "linear"}), models / "ours")
    (models / "elsewhere").mkdir()
    monkeypatch.chdir(models / "elsewhere")
    read = read_mergekit(models / "ours" / "mergekit_config.yml").recipe
    assert [source.path.resolve() for source in read.sources] == [models / "a", models / "b"]


@pytest.mark.parametrize(
    "given",
    [
        {"method": "ties"},  # one threshold for the whole model
        {"method": "ties", "options": {"scope": "tensor", "elect": "plain"}},
        {"method": "ties", "options": {"scope": "tensor", "drop": 0.1}},
        {"method": "task_arithmetic", "options": {"stages": [{"drop": {"drop": 0.5}}]}},
        {"method": "mask", "options": {"mask": "magnitude"}},
        {
            "method": "breadcrumbs",
            "options": {"density": 1, "gamma": 0},
            "rules": [{"tensors": "*", "method": "lines"}],
        },
        {"method": "lines"},
        {
            "method": "ties",
            "rules": [{"tensors": "*mlp*", "method": "task_arithmetic"}],
            "options": {"scope": "tensor"},
        },
    ],
    ids=str,
)
def test_no_file_is_written_for_merges_without_a_counterpart(given: dict[str, Any], models: Path) -> None:
    merge(_recipe(given), models / "ours")
    assert not (models / "ours" / "mergekit_config.yml").exists()
    assert "mergekit" not in (models / "ours" / "README.md").read_text()


def test_the_written_file_names_adapters_templates_and_no_quantised_models(models: Path) -> None:
    module = "base_model.model.model.layers.1.self_attn.q_proj"
    (models / "adapter").mkdir()
    factors = {f"{module}.lora_A.weight": torch.ones(2, 16), f"{module}.lora_B.weight": torch.ones(16, 2)}
    save_file(factors, models / "adapter" / "adapter_model.safetensors")
    (models / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    for name in ("base", "a"):  # a tied head that is stored puts a view before the models
        tensors = loaded(models / name)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, models / name / "model.safetensors", {"format": "pt"})
        config = json.loads((models / name / "config.json").read_text()) | {"tie_word_embeddings": True}
        (models / name / "config.json").write_text(json.dumps(config))
    recipe = {"method": "task_arithmetic", "base": "adapter", "base_onto": "base", "chat_template": "chatml"}
    merge({**recipe, "sources": [{"path": "adapter", "onto": "a", "name": "x"}]}, "ours")
    value = yaml.safe_load((models / "ours" / "mergekit_config.yml").read_text())
    assert value["base_model"] == "../base+../adapter"
    assert value["models"][0]["model"] == "../a+../adapter"
    assert value["chat_template"].startswith("{%- for message")
    stem = "model.layers.0.mlp.up_proj.weight"
    codes = {stem: torch.ones(24, 16).to(torch.float8_e4m3fn), f"{stem}_scale": torch.tensor(0.5)}
    save_file(loaded(models / "b") | codes, models / "b" / "model.safetensors", {"format": "pt"})
    merge({"method": "linear", "sources": [{"path": "b", "name": "b"}, {"path": "c", "name": "c"}]}, "quantised")
    assert not (models / "quantised" / "mergekit_config.yml").exists()


def test_the_written_dtype_makes_mergekit_compute_in_float32(models: Path) -> None:
    tiny_llama(models / "c", 3, dtype=torch.bfloat16, near=models / "base")
    sources = [{"path": name, "name": name} for name in ("a", "c")]
    merge({"method": "linear", "sources": sources, "dtype": "bfloat16"}, models / "ours")
    value = yaml.safe_load((models / "ours" / "mergekit_config.yml").read_text())
    assert (value["dtype"], value["out_dtype"]) == ("float32", "bfloat16")
    assert_same(loaded(models / "ours"), by_mergekit(yaml.safe_dump(value).replace("../", ""), models / "theirs"))


DRAWN = """
models:
  - {model: a, parameters: {density: 0.75, weight: 0.7}}
  - {model: b, parameters: {density: 1.0, weight: -0.2}}
  - {model: c, parameters: {density: [0.3, 0.6], weight: 0.5}}
base_model: base
merge_method: METHOD
parameters: {rescale: RESCALE, normalize: NORMALIZE, epsilon: [0.1, 0.2]}
"""


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della", "della_linear"])
@pytest.mark.parametrize("rescale", [True, False])
def test_random_methods_give_the_same_weights_with_mergekits_draws(
    method: str, rescale: bool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DRAWN.replace("METHOD", method).replace("RESCALE", str(rescale)).replace("NORMALIZE", str(not rescale))
    with mergekits_draws() as kept:
        theirs = by_mergekit(config, models / "theirs")
    (models / "config.yml").write_text(config)
    read = read_mergekit(models / "config.yml", seed=3)
    assert any("drawn" in note for note in read.notes)
    report = merge(read.recipe, models / "drawn", notes=read.notes)
    assert report.kept_by_tower["a"]["model"] == pytest.approx(0.75, abs=0.03)
    assert report.kept_by_tower["b"]["model"] > 0.999
    assert report.notes == read.notes
    written = yaml.safe_load((models / "drawn" / "mergekit_config.yml").read_text())
    assert written["merge_method"] == method
    assert written["models"][0]["parameters"]["density"] == 0.75
    assert written["parameters"]["rescale"] is rescale
    inject(kept, monkeypatch)
    assert_same(by_us(config, models), theirs)


def test_notes_give_reasons(models: Path) -> None:
    (models / "config.yml").write_text(
        """
        nmae: mine
        merge_methd: ties
        models:
          - {model: {model: a, lroa: x}, density: 0.3, parameters: {weight: 1, t: 0.5, lambda: 2}}
        base_model: base
        merge_method: task_arithmetic
        parameters: {filter_wise: true, density: [{value: 1, fliter: mlp}]}
        normalize: true
        tokenizer: {sorce: base, tokens: {x: {source: {kind: zero}, forced: true}}}
        tokenizer: {sorce: base, tokens: {x: {source: {kind: zero}, forced: true}}}
        """
    )
    read = read_mergekit(models / "config.yml")
    assert read.recipe.scale == 1
    notes = "\n".join(read.notes)
    for words in (
        "line 2: nmae: is not a key",
        "did you mean merge_method?",
        "line 5: models[0]: density: stands beside model, where mergekit ignores it; write it under parameters",
        "line 9: normalize: stands outside of parameters",
        "line 5: models[0].model: lroa: is not a key of mergekit; did you mean lora?",
        "line 8: parameters: density: fliter: is not a key of mergekit; did you mean filter?",
        "line 11: tokenizer: is given more than once; the last one counts",
        "line 11: tokenizer: sorce: is not a key of mergekit; did you mean source?",
        "line 11: tokenizer: tokens: x: forced: is not a key of mergekit; did you mean force?",
    ):
        assert words in notes
    for words in ("t: is not a parameter of task_arithmetic", "filter_wise: is not a", "lambda: is read only under"):
        assert words in notes


REFUSED = {
    "merge_methd: linear": "is not a mergekit file",
    "merge_method: linear": "exactly one of models, slices and modules, has none",
    "merge_method: fisher\nmodels: [{model: a}]": "merge_method: 'fisher' is not supported; known: linear",
    "merge_method: sluerp\nmodels: [{model: a}]": "did you mean",
    "merge_method: linear\nmodels: [{model: a}]": "line 2: a: weight: linear needs it",
    "merge_method: linear\nmodels: [{model: a, weight: 1}]": r"linear needs it; line 2: models\[0\]: weight: stands beside model",
    "merge_method: linear\nweight: 1\nmodels: [{model: a}]": "linear needs it; line 2: weight: stands outside of parameters",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: [{filter: mlp, value: 1}]}}]": "needs it for tensor",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: much}}]": "line 2: a: weight: 'much' must be a finite number",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: {valeu: 1}}}]": "each entry needs value",
    "merge_method: linear\nmodels: [{model: nowhere/to-be-found}]": "line 2: model.*hf download nowhere/to-be-found",
    "merge_method: linear\nmodels: [{model: a}, {model: a}]": "a model is named twice",
    "merge_method: linear\nmodels: [{modle: a}]": r"models\[0\]: needs model",
    "merge_method: ties\nmodels: [{model: a, parameters: {weight: 1}}]": "base_model: ties needs a base_model",
    "merge_method: nuslerp\nmodels: [{model: a}]\nparameters: {weight: 1}": "takes 2 models besides the base, but 1 are given",
    "merge_method: nuslerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1}": "takes 2 models besides",
    "merge_method: multislerp\nbase_model: base\nmodels: [{model: base}]\nparameters: {weight: 1}": "at least 1 models besides",
    "merge_method: karcher\nmodels: [{model: a}]\nparameters: {max_iter: 2.5}": "max_iter: 2.5 must be a whole number",
    "merge_method: ram\nbase_model: base\nmodels: [{model: a}]\nparameters: {epsilon: -1}": "epsilon: is -1; it must",
    "merge_method: dare_ties\nbase_model: base\nparameters: {weight: 1, density: 0}\nmodels: [{model: a}]": (
        "line 3: density: a: is 0, which keeps nothing"
    ),
    "merge_method: della\nbase_model: base\nparameters: {weight: 1, density: 0.1}\nmodels: [{model: a}]": (
        "epsilon: a: 0.1 ± 0.15 must lie"
    ),
    "merge_method: model_stock\nbase_model: base\nmodels: [{model: a}]": "at least 3 models",
    "merge_method: slerp\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}": "takes 2 models",
    "merge_method: slerp\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}": "base_model: slerp needs a base_model",
    "merge_method: passthrough\nmodels: [{model: a}, {model: b}]": "takes 1 models",
    "merge_method: linear\ndtype: float64\nparameters: {weight: 1}\nmodels: [{model: a}]": "line 2: dtype: 'float64' is not supported",
    "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}]\ntokenizer: {source: base}": "there is no base_model",
    "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}]\ntokenizer_source: c": "'c' is not one of the merged",
    "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}]\ntokenizer: {pad_to_multiple_of: -8}": (
        "pad_to_multiple_of: -8 must be a positive whole number"
    ),
    "merge_method: linear\nparameters: {weight: 1}\nmodules: {encoder: {slices: [{sources: [{model: a, layer_range: [0, 4]}]}]}}": (
        "modules: none of encoder has model.layers.0.*; mergekit would leave it out.*Give text_decoder, too"
    ),
    "merge_method: linear\nslices: [{sources: [{model: a}]}]": "layer_range: needs two integers",
    "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 5]}]}]": "a has 4 layers",
    "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [3, 1]}]}]": "must be the first layer and the",
    "merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 2]}]}]": (
        "the layer_ranges of its sources have different lengths"
    ),
    "merge_method: karcher\nslices:\n- {sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1]}]}\n"
    "- {sources: [{model: a, layer_range: [1, 4]}]}": "line 4: slices.1.: has 1 models and another slice 2",
    "merge_method: linear\nmodels: [{model: a}]\n---\nmerge_method: linear\nmodels: [{model: b}]": "two merges have no name",
    "merge_method: [": "is not YAML",
    "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1, normalize: 0.5}": "normalize: 0.5 must be true or false",
    "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1, normalize: maybe}": "'maybe' must be true or false",
    "version https://git-lfs.github.com/spec/v1\noid sha256:0": "is a pointer of Git LFS",
    "<!doctype html>": "is a web page",
}


@pytest.mark.parametrize(("config", "words"), REFUSED.items(), ids=REFUSED.values())
def test_unsupported_settings_are_refused_by_name(config: str, words: str, models: Path) -> None:
    (models / "config.yml").write_text(config)
    with pytest.raises(MergeError, match=words) as refused:
        read_mergekit(models / "config.yml")
    assert str(refused.value).startswith(str(models / "config.yml"))


SEVERAL = """
merge_method: linear
models: [{model: second, parameters: {weight: 1}}, {model: c, parameters: {weight: 3}}]
---
name: second
merge_method: task_arithmetic
base_model: base
models: [{model: first, parameters: {weight: 0.5}}, {model: b, parameters: {weight: 1}}]
---
name: first
merge_method: passthrough
models: [{model: a}]
parameters: {scale: 2}
"""


def test_several_merges_use_each_other_by_name(models: Path) -> None:
    (models / "config.yml").write_text(SEVERAL)
    names = []
    for one in read_merges("config.yml", "out"):
        merge(one.read.recipe, one.out, notes=one.read.notes)
        names.append(one.name)
    assert names == ["first", "second", None]
    out, first, second = (loaded(models / name) for name in ("out", "out-parts/first", "out-parts/second"))
    base, a, b, c = (loaded(models / name) for name in ("base", "a", "b", "c"))
    for name, tensor in out.items():
        torch.testing.assert_close(first[name], 2 * a[name])
        expected = base[name] + 0.5 * (2 * a[name] - base[name]) + b[name] - base[name]
        torch.testing.assert_close(second[name], expected)
        torch.testing.assert_close(tensor, (second[name] + 3 * c[name]) / 4)
    with pytest.raises(MergeError, match="contains 3 merges"):
        read_mergekit("config.yml")


def test_merges_that_all_have_names_are_folders_of_the_output(models: Path) -> None:
    (models / "config.yml").write_text(SEVERAL.replace("merge_method: linear", "name: third\nmerge_method: linear", 1))
    folders = []
    for one in read_merges("config.yml", "out"):
        merge(one.read.recipe, one.out)
        folders.append(one.out)
    assert folders == [models / "out" / name for name in ("first", "second", "third")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("name: first", "name: second"), "two merges are called second"),
        (("model: a}", "model: second}"), "use each other in a circle"),
        (("name: first", "name: ../first"), "must be a name for a folder"),
        (("name: first", "name: ''"), "name: '' must be a name for a folder"),
        (("name: first", "name: first@1"), "without slashes, @ and \\+"),
        (("name: first", "name: [first]"), r"line \d+: name: needs a name, not \['first'\]"),
        (("name: first", "name: true"), r"line \d+: name: needs a name, not True"),
    ],
)
def test_several_merges_that_cannot_be_told_apart_are_refused(
    change: tuple[str, str], words: str, models: Path
) -> None:
    (models / "config.yml").write_text(SEVERAL.replace(*change))
    with pytest.raises(MergeError, match=words):
        list(read_merges("config.yml", "out"))


TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def test_chat_templates(models: Path) -> None:
    config = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nchat_template: "
    (models / "a" / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    (models / "config.yml").write_text(config + json.dumps(TEMPLATE))
    merge(read_mergekit("config.yml").recipe, "given")
    assert (models / "given" / "chat_template.jinja").read_text() == TEMPLATE
    assert json.loads((models / "given" / "tokenizer_config.json").read_text()) == {}
    for name, text in (("b", "of b"), ("c", "of c"), ("base", "of c")):
        (models / name / "chat_template.jinja").write_text(text)
    several = (
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}, {model: c}, {model: base}]\n"
    )
    (models / "config.yml").write_text(several + "chat_template: auto")
    assert read_mergekit("config.yml").recipe.chat_template == "of c"
    (models / "c" / "chat_template.jinja").write_text("word")  # a name, and no template
    (models / "base" / "chat_template.jinja").write_text("word")
    assert read_mergekit("config.yml").recipe.chat_template == "of b"
    (models / "b" / "chat_template.jinja").write_text("word")
    (models / "a" / "tokenizer_config.json").write_text('{"chat_template": "chatml"}')
    assert read_mergekit("config.yml").recipe.chat_template is None
    (models / "a" / "tokenizer_config.json").write_text("{}")
    (models / "config.yml").write_text(config + "llama3")
    read = read_mergekit("config.yml")
    assert "chat_template: llama3: has the white space of mergekit's template, which the format lacks" in read.notes
    merge(read.recipe, "named")
    assert "<|eot_id|>\\n" in (models / "named" / "chat_template.jinja").read_text()
    (models / "config.yml").write_text(config + "chatmll")
    with pytest.raises(MergeError, match="line 3: chat_template: 'chatmll' is no template; did you mean chatml"):
        read_mergekit("config.yml")
    (models / "config.yml").write_text(config + "short")
    with pytest.raises(MergeError, match="chat_template: 'short' is no template"):
        read_mergekit("config.yml")


MODULES = """
merge_method: linear
modules:
  text_decoder:
    slices:
      - sources: [{model: one, layer_range: [0, 2]}, {model: two, layer_range: [0, 2]}]
      - sources: [{model: one, layer_range: [1, 2]}, {model: two, layer_range: [0, 1]}]
        parameters: {weight: 3}
    parameters: {weight: [1, 2]}
  vision_tower:
    models: [{model: one, parameters: {weight: 0.25}}, {model: two, parameters: {weight: 0.75}}]
  multi_modal_projector:
    models: [{model: one, parameters: {weight: 0}}, {model: two, parameters: {weight: 1}}]
"""


def test_modules_have_their_own_models_slices_and_parameters(models: Path) -> None:
    texts = [f"model.layers.{n}.mlp.weight" for n in range(2)] + ["model.embed_tokens.weight", "lm_head.weight"]
    sights = [f"visual.blocks.{n}.mlp.weight" for n in range(3)] + ["visual.patch_embed.proj.weight"]
    joints = ["visual.merger.mlp.0.weight", "visual.merger.ln_q.weight"]
    for seed, name in enumerate(("one", "two")):
        generator = torch.Generator().manual_seed(seed)
        (models / name).mkdir()
        tensors = {key: torch.randn(3, 2, generator=generator) for key in (*texts, *sights, *joints)}
        save_file(tensors, models / name / "model.safetensors")
        parts = {"num_hidden_layers": 2, "vision_config": {"depth": 3, "num_layers": 2}}
        (models / name / "config.json").write_text(json.dumps({"model_type": "qwen2_vl", **parts}))
    ours = by_us(MODULES, models)
    one, two = loaded(models / "one"), loaded(models / "two")
    assert sorted(ours) == sorted([*texts, *sights, *joints, "model.layers.2.mlp.weight"])
    for name in sights:
        torch.testing.assert_close(ours[name], 0.25 * one[name] + 0.75 * two[name])
    for name in joints:
        torch.testing.assert_close(ours[name], two[name])
    for name in texts:
        torch.testing.assert_close(ours[name], (one[name] + two[name]) / 2)
    moved = (one["model.layers.1.mlp.weight"] + two["model.layers.0.mlp.weight"]) / 2
    torch.testing.assert_close(ours["model.layers.2.mlp.weight"], moved)
    config = json.loads((models / "ours" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["vision_config"]["depth"]) == (3, 3)
    (models / "config.yml").write_text(MODULES.partition("  multi_modal")[0])
    with pytest.raises(MergeError, match="none of text_decoder, vision_tower has visual.merger.*Give multi_modal_proj"):
        read_mergekit("config.yml")
    (models / "config.yml").write_text(
        MODULES.replace("model: two, parameters: {weight: 1}", "model: a, parameters: {weight: 1}")
    )
    with pytest.raises(MergeError, match="modules: each must merge the same models"):
        read_mergekit("config.yml")


def test_config_and_tokenizer_come_from_the_base(models: Path) -> None:
    (models / "base" / "generation_config.json").write_text('{"of": "base"}')
    by_us("merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\nmodels: [{model: a}]", models)
    assert json.loads((models / "ours" / "generation_config.json").read_text()) == {"of": "base"}


@pytest.mark.skipif(EXAMPLES is None, reason="MMGRID_MERGEKIT_EXAMPLES names no folder")
def test_mergekits_examples_are_merged_or_refused_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = {}
    for file in sorted(Path(str(EXAMPLES)).glob("*.yml")):
        text = re.sub("dtype: .*", "dtype: float32", file.read_text())
        value = yaml.safe_load(text)
        named = {each["model"] for each in value.get("models", [])} | {value.get("base_model")}
        named |= {each["model"] for piece in value.get("slices", []) for each in piece["sources"]}
        for seed, name in enumerate(sorted(named - {None})):
            tiny_llama(tmp_path / name, seed, layers=40)
        try:
            ours = by_us(text, tmp_path)
        except MergeError as error:
            refused[file.stem] = str(error)
        else:
            theirs = by_mergekit(text, tmp_path / "theirs")
            assert_same(ours, theirs, 3e-6)
            shutil.rmtree(tmp_path / "ours")
            shutil.rmtree(tmp_path / "theirs")
    assert not refused


def test_a_model_with_an_adapter(models: Path) -> None:
    generator, module = torch.Generator().manual_seed(0), "base_model.model.model.layers.1.self_attn.q_proj"
    factors = {f"{module}.lora_{half}.weight": torch.randn(2, 16, generator=generator) for half in "AB"}
    factors[f"{module}.lora_B.weight"] = factors[f"{module}.lora_B.weight"].T.contiguous()
    (models / "adapter").mkdir()
    save_file(factors, models / "adapter" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["layers.1.self_attn.q_proj"]}
    (models / "adapter" / "adapter_config.json").write_text(json.dumps({**settings, "task_type": "CAUSAL_LM"}))
    config = """
        models: [{model: a+adapter, parameters: {weight: 0.5}}, {model: b, parameters: {weight: 1}}]
        base_model: base
        merge_method: task_arithmetic"""
    ours = by_us(config, models)
    assert not torch.allclose(
        ours["model.layers.1.self_attn.q_proj.weight"], loaded(models / "b")["model.layers.1.self_attn.q_proj.weight"]
    )
    theirs = by_mergekit(config, models / "theirs")
    assert_same(ours, theirs)
    again = read_mergekit(models / "ours" / "mergekit_config.yml").recipe
    assert (again.sources[0].path.name, again.sources[0].onto.name) == ("adapter", "a")  # type: ignore[union-attr]
