"""Merging in memory: types, tied tensors, kept tensors, and refused input."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mmgrid.merging import MergeError, merge_state_dicts

NAMES = ("books", "games", "toys")


def _merged(sources: Any, base: Tensor, **options: Any) -> Tensor:
    return merge_state_dicts("task_arithmetic", sources, base={"w": base}, **options)["w"]


def test_arithmetic_in_the_input_type_would_differ() -> None:
    """Why sums are computed in float32: in bfloat16 every step would be rounded."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4096, generator=generator).bfloat16()
    sources = {name: base + (0.05 * torch.randn(4096, generator=generator)).bfloat16() for name in NAMES}
    ours = _merged({name: {"w": tensor} for name, tensor in sources.items()}, base, scale=0.3, dtype=torch.bfloat16)
    exact = base.double() + 0.3 * sum(tensor.double() - base.double() for tensor in sources.values())
    stepwise = base + 0.3 * sum(tensor - base for tensor in sources.values())
    assert (ours != exact.bfloat16()).float().mean() < 0.001
    assert (stepwise != exact.bfloat16()).float().mean() > 0.01


# ---- sources in a list


def test_sources_in_a_list_are_named_by_their_number() -> None:
    models = [{"w": torch.full((3,), float(value))} for value in (1, 2, 6)]
    named = {f"model{number}": model for number, model in enumerate(models, 1)}
    assert merge_state_dicts("linear", models)["w"].equal(merge_state_dicts("linear", named)["w"])
    by_name = merge_state_dicts("linear", named, weights={"model1": 0.5, "model2": 0.25, "model3": 0.25})["w"]
    assert merge_state_dicts("linear", models, weights=[0.5, 0.25, 0.25])["w"].equal(by_name)
    assert merge_state_dicts("linear", models, weights={"model3": 0.0})["w"].tolist() == [1.5] * 3


def test_a_long_list_keeps_its_order_in_the_names() -> None:
    """Methods over time take sources in the order of their names, in which model10 would come before model2."""
    chain = [{"w": torch.tensor([float(number**2)])} for number in range(12)]
    assert merge_state_dicts("acceleration", chain, step=1.0)["w"].item() == 144


def test_weights_in_a_list_fit_the_sources() -> None:
    models = [{"w": torch.ones(2)}, {"w": torch.zeros(2)}]
    with pytest.raises(MergeError, match="weights: there are 3 weights for 2 sources; give one for each"):
        merge_state_dicts("linear", models, weights=[1, 2, 3])
    with pytest.raises(MergeError, match="weights: a list goes with a list of sources"):
        merge_state_dicts("linear", dict(zip("ab", models, strict=True)), weights=[1, 2])
    with pytest.raises(MergeError, match="linear: there are no sources to merge"):
        merge_state_dicts("linear", [])


# ---- which tensors


def test_types_of_the_result() -> None:
    sources = {
        "a": {"same": torch.ones(2).half(), "mixed": torch.ones(2).bfloat16(), "wide": torch.ones(2).double()},
        "b": {"same": torch.ones(2).half(), "mixed": torch.ones(2).half(), "wide": torch.ones(2)},
    }
    assert {tensor.dtype for tensor in merge_state_dicts("linear", sources).values()} == {torch.float32}
    by_source = merge_state_dicts("linear", sources, dtype=None)
    assert {name: tensor.dtype for name, tensor in by_source.items()} == {
        "same": torch.float16,
        "mixed": torch.float32,
        "wide": torch.float32,
    }


def test_whole_numbers_are_kept_if_equal() -> None:
    model = {"w": torch.ones(2), "ids": torch.arange(3), "mask": torch.tensor([True, False])}
    merged = merge_state_dicts("linear", {"a": model, "b": model})
    assert merged["ids"].equal(model["ids"])
    assert merged["mask"].dtype == torch.bool
    with pytest.raises(MergeError, match=r"tensor ids: whole numbers.*'a' and 'b' differ"):
        merge_state_dicts("linear", {"a": model, "b": {**model, "ids": torch.arange(3) + 1}})


def test_tied_tensors_stay_tied() -> None:
    def tied(value: float) -> dict[str, Tensor]:
        table = torch.full((3, 2), value)
        return {"embed": table, "head": table}

    merged = merge_state_dicts("linear", {"a": tied(1.0), "b": tied(3.0)})
    assert merged["head"] is merged["embed"]
    untied = {"embed": torch.zeros(3, 2), "head": torch.ones(3, 2)}
    merged = merge_state_dicts("task_arithmetic", {"a": tied(1.0)}, base=untied, scale=0.5)
    assert merged["head"].unique().tolist() == [1.0]
    assert merged["embed"].unique().tolist() == [0.5]


def test_parameters_with_gradients_are_merged_as_values() -> None:
    layers = {name: torch.nn.Linear(3, 2) for name in "ab"}
    sources = {name: dict(layer.named_parameters()) for name, layer in layers.items()}
    assert not merge_state_dicts("linear", sources)["weight"].requires_grad


def test_tensors_only_in_the_base_are_not_in_the_result() -> None:
    merged = merge_state_dicts(
        "task_arithmetic", {"a": {"w": torch.ones(1)}}, base={"w": torch.ones(1), "x": torch.ones(1)}
    )
    assert list(merged) == ["w"]


GOOD = {"w": torch.ones(2, 3), "b": torch.ones(3)}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"w": torch.ones(2, 3)}, r"'z' lacks b,"),
        ({**GOOD, "extra": torch.ones(1)}, r"'a' lacks extra"),
        ({**GOOD, "w": torch.ones(3, 2)}, r"tensor w: shapes differ: a \[2, 3\], z \[3, 2\]"),
        ({**GOOD, "b": torch.tensor([1.0, float("nan"), 0.0])}, r"tensor b: source 'z' holds NaN"),
        ({**GOOD, "b": torch.tensor([1.0, float("-inf"), 0.0])}, r"tensor b: source 'z' holds an infinity"),
        (
            {**GOOD, "b": torch.tensor([1.0, -1e300, 0.0], dtype=torch.float64)},
            r"tensor b: source 'z' holds 1e\+300, and float32, .* 3\.403e",
        ),
        ({**GOOD, "b": torch.ones(3, dtype=torch.int64)}, r"tensor b: types cannot be combined"),
        ({**GOOD, "b": torch.ones(3, dtype=torch.complex64)}, r"tensor b: type torch.complex64"),
    ],
)
def test_mismatched_sources_are_refused(other: dict[str, Tensor], says: str) -> None:
    with pytest.raises(MergeError, match=says):
        merge_state_dicts("linear", {"a": GOOD, "z": other})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sources": {}}, "no sources"),
        ({"sources": {"a": {}}}, "contain no tensors"),
        ({"weights": {"c": 1.0}}, "no source 'c'.*known: a, b"),
        ({"weights": {"a": float("nan")}}, "weight of 'a' is nan"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"base": {"w": torch.ones(2, 3)}}, "the base lacks b"),
        ({"base": {**GOOD, "b": torch.tensor([float("nan")] * 3)}}, "tensor b: the base holds NaN"),
        ({"base": {**GOOD, "b": torch.ones(4)}}, r"\(base\) \[4\]"),
        (
            {"scale": 1e30, "weights": {"a": 1e30}, "base": {"w": -GOOD["w"], "b": GOOD["b"]}},
            "tensor w: .*do not fit",
        ),
        ({"scale": 1e5, "dtype": torch.float16, "base": {"w": -GOOD["w"], "b": GOOD["b"]}}, "at most 6.55e.04"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(MergeError, match=says):
        merge_state_dicts("task_arithmetic", **{"sources": {"a": GOOD, "b": GOOD}, "base": GOOD, **arguments})
