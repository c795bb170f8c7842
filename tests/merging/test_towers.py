"""Two towers in one recipe: each with its own method, λ, base and weights; λ over the depth; thresholds per tower."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kits import slow_merges
from mmgrid.merging import MergeError, merge, merge_state_dicts
from mmgrid.merging.arrays.names import depths, layer_of, thirds, tower_of
from mmgrid.merging.verify import verify

SHAPES = {
    "item_tower.embed_tokens.weight": (12, 6),
    "item_tower.layers.0.weight": (9, 11),
    "item_tower.layers.1.weight": (9, 11),
    "item_tower.norm.weight": (11,),
    "user_tower.layers.0.weight": (7, 8),
    "user_tower.layers.1.weight": (7, 8),
    "user_tower.layers.2.weight": (7, 8),
    "temperature": (),
}
NAMES = ("books", "games", "toys")
Model = dict[str, Tensor]


class Towers:
    """Three sources and three bases on disk; the user tower's weights are a hundredth of the item tower's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = {name: self._written(name, seed) for seed, name in enumerate([*NAMES, "base", "older", "other"])}

    def _written(self, name: str, seed: int) -> Model:
        draw = torch.Generator().manual_seed(seed)
        model = {
            tensor: torch.randn(shape, generator=draw) * (0.01 if "user" in tensor else 1.0)
            for tensor, shape in SHAPES.items()
        }
        (self.root / name).mkdir()
        save_file(model, self.root / name / "model.safetensors")
        return model

    def path(self, name: str) -> str:
        return str(self.root / name)

    def recipe(self, **changes: Any) -> dict[str, Any]:
        sources = [{"name": name, "path": self.path(name), "weight": 0.5} for name in NAMES]
        return {"method": "task_arithmetic", "base": self.path("base"), "sources": sources, **changes}

    def merged(self, out: str = "out", workers: int = 2, **changes: Any) -> Model:
        merge(self.recipe(**changes), self.root / out, workers=workers)
        return load_file(self.root / out / "model.safetensors")

    def alone(self, method: str, *, base: str | None = "base", weight: float = 0.5, **arguments: Any) -> Model:
        """The whole model merged with one method."""
        sources = {name: self.models[name] for name in NAMES}
        weights = arguments.pop("weights", dict.fromkeys(NAMES, weight))
        below = None if base is None else self.models[base]
        return merge_state_dicts(method, sources, base=below, weights=weights, **arguments)


@pytest.fixture
def towers(tmp_path: Path) -> Towers:
    return Towers(tmp_path)


def assert_parts(merged: Model, **parts: Model) -> None:
    """Checks that each tower (and `rest`, the tensors outside of towers) has the bits of its merge."""
    for name, tensor in merged.items():
        tower = name.partition(".")[0] if "_tower" in name else "rest"
        assert tensor.equal(parts[tower][name]), name


def test_each_tower_has_its_own_method_scale_base_and_weights(towers: Towers) -> None:
    rules = [
        {"tensors": "item_tower.*", "scale": 0.3, "base": towers.path("older")},
        {"tensors": "user_tower.*", "method": "ties", "options": {"density": 0.4}, "weights": {"toys": 0.1}},
    ]
    merged = towers.merged(rules=rules, scale=0.8)
    user = dict.fromkeys(NAMES, 0.5) | {"toys": 0.1}
    only = {name: shape for name, shape in SHAPES.items() if name.startswith("user")}
    trimmed = merge_state_dicts(
        "ties",
        {name: {tensor: towers.models[name][tensor] for tensor in only} for name in NAMES},
        base={tensor: towers.models["base"][tensor] for tensor in only},
        weights=user,
        scale=0.8,
        density=0.4,
    )
    assert_parts(
        merged,
        item_tower=towers.alone("task_arithmetic", base="older", scale=0.3),
        user_tower=trimmed,
        rest=towers.alone("task_arithmetic", scale=0.8),
    )


@pytest.mark.parametrize("method", ["linear", "multislerp", "velocity", "della", "model_stock", "tsv_m", "dare"])
def test_one_tower_may_have_any_method(towers: Towers, method: str) -> None:
    """Methods without a base take no λ from the recipe; methods by angle or whole tensor see only their tensors."""
    weights = dict.fromkeys(NAMES, 1.0)
    rules = [{"tensors": "user_tower.*", "method": method, "weights": weights}]
    merged = towers.merged(rules=rules, scale=0.8)
    has_base = method not in ("linear", "velocity")
    scale = {"scale": 0.8} if has_base else {}
    other = towers.alone(method, base="base" if has_base else None, weights=weights, **scale)
    rest = towers.alone("task_arithmetic", scale=0.8)
    assert_parts(merged, user_tower=other, item_tower=rest, rest=rest)


def test_the_first_matching_rule_wins(towers: Towers) -> None:
    rules = [
        {"tensors": ["*.layers.1.*", "temperature"], "scale": 0.0},
        {"tensors": "item_tower.*", "scale": 1.0},
        {"tensors": "*", "scale": 0.5},
        {"tensors": "user_tower.*", "scale": 7.0},
    ]
    merged = towers.merged(rules=rules)
    for name, tensor in merged.items():
        scale = 0.0 if ".layers.1." in name or name == "temperature" else 1.0 if "item" in name else 0.5
        assert tensor.equal(towers.alone("task_arithmetic", scale=scale)[name]), name


def test_rules_change_no_bit_with_threads_and_are_recorded(towers: Towers) -> None:
    rules = [
        {"tensors": "item_tower.*", "method": "dare", "options": {"drop": 0.5}, "base": towers.path("other")},
        {"tensors": "user_tower.*", "scale": [0.0, 1.0]},
    ]
    for workers in (1, 2, 5):
        towers.merged(f"out{workers}", workers=workers, rules=rules)
    assert len({(towers.root / f"out{n}" / "model.safetensors").read_bytes() for n in (1, 2, 5)}) == 1
    record = json.loads((towers.root / "out1" / "mmgrid.json").read_text())
    assert record["recipe"]["rules"][0]["base"] == "other"
    assert record["towers"] == ["item_tower", "model", "user_tower"]
    assert set(record["report"]["kept_share"]["books"]) == {"item_tower"}
    verify(towers.root / "out1")


# ---- thresholds


def wide(model: Model) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in model.items()}


@pytest.mark.parametrize("scope", ["model", "tower", "tensor"])
def test_thresholds_per_scope(towers: Towers, scope: str) -> None:
    merged = towers.merged(method="ties", options={"density": 0.3, "scope": scope})
    deltas = {
        name: slow_merges.trimmed(
            {key: tensor - wide(towers.models["base"])[key] for key, tensor in wide(towers.models[name]).items()},
            0.3,
            scope,
        )
        for name in NAMES
    }
    any_kept = {key: np.any([delta[key] != 0 for delta in deltas.values()], axis=0) for key in SHAPES}
    for name, tensor in merged.items():
        moved = (tensor != towers.models["base"][name]).numpy()
        np.testing.assert_array_equal(moved, any_kept[name], err_msg=name)
    record = json.loads((towers.root / "out" / "mmgrid.json").read_text())
    shares = record["report"]["kept_share"]["books"]
    sizes = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    for tower, layers in shares.items():
        for layer, share in layers.items():
            names = [
                name
                for name in SHAPES
                if tower_of(name) == tower and layer == ("outside" if layer_of(name) is None else str(layer_of(name)))
            ]
            kept = sum(int(np.count_nonzero(deltas["books"][name])) for name in names)
            assert share == pytest.approx(kept / sum(sizes[name] for name in names))
    if scope == "model":
        assert all(share == 0 for share in shares["user_tower"].values()), (
            "the small tower is dropped, and the report shows it"
        )
    if scope == "tower":
        assert any(share > 0.1 for share in shares["user_tower"].values())


def test_a_rule_for_scale_or_weights_does_not_split_the_threshold(towers: Towers) -> None:
    """Tensors with the same trim share one threshold, even if a rule gives them another λ."""
    options = {"density": 0.3, "scope": "model"}
    plain = towers.merged("plain", method="ties", options=options, scale=0.5)
    ruled = towers.merged(
        "ruled", method="ties", options=options, rules=[{"tensors": "item_tower.*", "scale": 0.5}], scale=0.25
    )
    half = towers.merged("half", method="ties", options=options, scale=0.25)
    assert_parts(ruled, item_tower=plain, user_tower=half, rest=half)
    base = towers.models["base"]
    assert all(ruled[name].equal(base[name]) for name in SHAPES if "user" in name)
    apart = towers.merged(
        "apart", method="ties", options=options, rules=[{"tensors": "user_tower.*", "options": {"density": 0.4}}]
    )
    assert any(not apart[name].equal(base[name]) for name in SHAPES if "user" in name), (
        "another density needs another threshold"
    )


# ---- λ over the depth


def test_a_list_of_scales_is_interpolated_over_the_depth_of_each_tower(towers: Towers) -> None:
    scales = [0.0, 1.0, 4.0]
    merged = towers.merged(scale=scales)
    expected = {
        "item_tower.embed_tokens.weight": 0.0,
        "item_tower.layers.0.weight": 0.0,
        "item_tower.layers.1.weight": 4.0,
        "item_tower.norm.weight": 4.0,
        "user_tower.layers.0.weight": 0.0,
        "user_tower.layers.1.weight": 1.0,
        "user_tower.layers.2.weight": 4.0,
        "temperature": 4.0,
    }
    for name, scale in expected.items():
        assert merged[name].equal(towers.alone("task_arithmetic", scale=scale)[name]), name
    between = towers.merged("between", scale=[0.0, 1.0])["user_tower.layers.1.weight"]
    assert between.equal(towers.alone("task_arithmetic", scale=0.5)["user_tower.layers.1.weight"])
    one = towers.merged("one", scale=[0.7])
    assert all(one[name].equal(towers.alone("task_arithmetic", scale=0.7)[name]) for name in SHAPES)


def test_thirds_follow_from_layer_numbers() -> None:
    names = [f"user_tower.layers.{n}.w" for n in range(6)]
    assert list(thirds(names).values()) == ["early", "early", "middle", "middle", "late", "late"]
    few = ["embed.weight", "layers.0.w", "layers.1.w", "item_tower.layers.0.w", "norm.weight"]
    assert list(thirds(few).values()) == ["outside", "early", "late", "late", "outside"]  # an only layer is the last


def test_depths_follow_from_layer_numbers() -> None:
    names = ["model.embed_tokens.weight", "wte", *(f"model.layers.{n}.w" for n in range(5)), "lm_head.weight"]
    assert list(depths(names).values()) == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert depths(
        ["item_tower.layers.0.w", "item_tower.layers.3.w", "user_tower.layers.3.w", "user_tower.layers.6.w"]
    ) == {
        "item_tower.layers.0.w": 0,
        "item_tower.layers.3.w": 1,
        "user_tower.layers.3.w": 0.5,
        "user_tower.layers.6.w": 1,
    }
    assert depths(["a", "b.weight"]) == {"a": 1, "b.weight": 1}, "without layers, every tensor counts as the last"
    assert depths(["layers.0.w"]) == {"layers.0.w": 1}
    assert depths([]) == {}


def test_towers_and_layers_are_read_from_names() -> None:
    assert tower_of("item_tower.layers.0.w") == "item_tower"
    assert tower_of("model.item_tower.w") == "model"
    assert tower_of("item_towers.w") == "model"
    assert layer_of("model.layers.17.mlp.0.w") == 17
    assert layer_of("item_tower.norm") is None
    assert layer_of("h.3b.w") is None


# ---- errors


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"tensors": "item_tower.*", "method": "tise"}, r"unknown merge method 'tise'.*did you mean ties"),
        ({"tensors": "*", "scael": 1}, r"rules\.0\.scael: unknown key; did you mean scale"),
        ({"scale": 1}, r"rules\.0\.tensors: is missing"),
        ({"tensors": "*", "options": {"density": 0.2}}, r"task_arithmetic: unknown option 'density'"),
        ({"tensors": "*", "method": "linear", "scale": 0.5}, r"linear: has no delta for scale"),
        ({"tensors": "*", "weights": {"bookz": 1}}, r"no source 'bookz'; did you mean books"),
        ({"tensors": "*", "base": "nowhere"}, r"nowhere: does not exist"),
        ({"tensors": "*", "scale": []}, r"task_arithmetic: scale is an empty list"),
        ({"tensors": "*", "method": "linear", "base": "BASE"}, r"linear: has no base"),
    ],
)
def test_invalid_rules_are_refused(towers: Towers, rule: dict[str, Any], says: str) -> None:
    if rule.get("base") == "BASE":
        rule = {**rule, "base": towers.path("older")}
    with pytest.raises(MergeError, match=says):
        towers.merged(rules=[rule])
    assert not (towers.root / "out").exists()


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("user_tower.layers.0.weight", None, r"the base of a rule lacks user_tower\.layers\.0\.weight"),
        (
            "user_tower.layers.0.weight",
            torch.zeros(7, 7),
            r"user_tower\.layers\.0\.weight: shapes differ: base of its rule",
        ),
        ("user_tower.layers.0.weight", torch.zeros(7, 8, dtype=torch.int64), r"types cannot be combined"),
    ],
)
def test_a_mismatched_base_of_a_rule_is_refused(towers: Towers, name: str, tensor: Tensor | None, says: str) -> None:
    model = {key: value for key, value in towers.models["older"].items() if key != name}
    save_file(model if tensor is None else {**model, name: tensor}, towers.root / "older" / "model.safetensors")
    with pytest.raises(MergeError, match=says):
        towers.merged(rules=[{"tensors": "user_tower.*", "base": towers.path("older")}])
    towers.merged(rules=[{"tensors": "item_tower.*", "base": towers.path("older")}])


def test_a_base_of_a_rule_that_changes_during_the_merge_is_an_error(towers: Towers) -> None:
    file = towers.root / "older" / "model.safetensors"
    recipe = towers.recipe(rules=[{"tensors": "temperature", "base": towers.path("older")}])

    def touch(done: int, total: int, name: str) -> None:
        os.utime(file, (1, 1))

    with pytest.raises(MergeError, match=f"{file}: was changed"):
        merge(recipe, towers.root / "out", progress=touch)
