"""Every registered method passes the kit; and tests of single methods."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from kits import slow_merges
from mmgrid.merging import METHODS, MergeError, get_method, merge_state_dicts
from mmgrid.merging.methods import merge_method
from mmgrid.merging.methods.base import sum_of_weights, weighted_sum
from mmgrid.testing.merge_method import MergeMethodKit, MethodCase

# Depths of the tensors in the kit's model: layers 0 to 2, and 0 to 1 in the user tower; embeddings 0, the norm 1.
DEPTHS = {
    "embed_tokens.weight": 0.0,
    "layers.0.bias": 0.0,
    "layers.0.weight": 0.0,
    "layers.1.scale": 0.5,
    "layers.1.weight": 0.5,
    "layers.2.empty": 1.0,
    "layers.2.kernel": 1.0,
    "norm.weight": 1.0,
    "user_tower.embed.weight": 0.0,
    "user_tower.layers.0.weight": 0.0,
    "user_tower.layers.1.weight": 1.0,
}


def _case(name: str, **facts: object) -> MethodCase:
    reference = slow_merges.lines(DEPTHS) if name == "lines" else getattr(slow_merges, name)
    return MethodCase(METHODS[name], reference, **facts)  # pyright: ignore[reportArgumentType]


def _ties(**options: object) -> MethodCase:
    whole = {"density": 1.0, **({"drop": 0.0} if "drop" in options else {})}
    scaled = "change nothing" if options.get("normalise", True) else "scale it"
    return _case("ties", options=options, identity=whole, scaled_weights=scaled, sparse=True)


def _masked(name: str, identity: dict[str, object], **options: object) -> MethodCase:
    normalised = options.get("normalise", METHODS[name].options.model_fields["normalise"].default)
    scaled = "change nothing" if normalised else "scale it"
    return _case(name, options=options, identity=identity, scaled_weights=scaled, sparse=True)


CASES = [
    _case("linear"),
    _case("linear", options={"normalise": False}, scaled_weights="scale it"),
    _case("task_arithmetic", scaled_weights="scale it"),
    _case("task_arithmetic", options={"normalise": True}),
    _case("slerp", n_sources=2, identity=None),
    _case("multislerp"),
    _case("multislerp", base=True),
    _case("multislerp", n_sources=4, options={"eps": 0.0}),
    _case("model_stock", identity=None, weighted=False),
    _case("model_stock", identity=None, weighted=False, n_sources=2),
    _ties(),
    _ties(scope="tower", density=0.3),
    _ties(scope="tensor", elect="plain"),
    _ties(normalise=False, density=0.5),
    _ties(elect="plain", drop=0.3, normalise=False),
    _ties(scope="tensor", density=0.02, least=2, rescale="norm"),
    _ties(scope="tensor", density=0.5, rescale=True, normalise=False),
    _masked("dare", {"drop": 0.0}),
    _masked("dare", {"drop": 0.0}, inner="ties", drop=0.4, normalise=True),
    _masked("dare", {"drop": 0.0}, rescale=False, drop=0.9, normalise=True),
    _masked("dare", {"drop": 0.0}, rescale="norm", drop=0.6),
    _masked("breadcrumbs", {"density": 1.0, "gamma": 0.0}, rescale="norm", density=0.5, gamma=0.1),
    _masked("della", {"density": 1.0, "epsilon": 0.0}, rescale="norm", density=0.5),
    _masked("mask", {"drop": 0.0}),
    _masked("mask", {"drop": 0.0}, mask="magnitude", drop=0.9, rescale=True),
    _masked("mask", {"drop": 0.0}, mask="magnitude", scope="model", drop=0.35, inner="ties", normalise=True),
    _masked("breadcrumbs", {"density": 1.0, "gamma": 0.0}),
    _masked("breadcrumbs", {"density": 1.0, "gamma": 0.0}, scope="model", density=0.5, gamma=0.1, inner="ties"),
    _masked("breadcrumbs", {"density": 1.0, "gamma": 0.0}, scope="tower", density=0.29, gamma=0.71, normalise=True),
    _masked("della", {"density": 1.0, "epsilon": 0.0}),
    _masked("della", {"density": 1.0, "epsilon": 0.0}, density=0.5, epsilon=0.6, inner="linear", elect="plain"),
    _masked("della", {"density": 1.0, "epsilon": 0.0}, rescale=False, elect="plain", normalise=False),
    _case("lines", identity={"first": 1.0}, scaled_weights="scale it"),
    _case("lines", identity={"first": 1.0, "last": 1.0}, options={"first": 0.2, "last": 3.0, "normalise": True}),
    _case("velocity", identity=None, weighted=False),
    _case("velocity", identity=None, weighted=False, n_sources=4, options={"step": -0.5}),
    _case("acceleration", identity=None, weighted=False, n_sources=4),
    _case("acceleration", identity=None, weighted=False, options={"step": 0.5}),
    _case("decay", weighted=False),
    _case("decay", weighted=False, n_sources=4, options={"rate": 0.9}),
]


class TestEveryMethod(MergeMethodKit):
    @pytest.fixture(params=CASES, ids=lambda case: case.label)
    def case(self, request: pytest.FixtureRequest) -> MethodCase:
        return request.param


def test_every_method_passes_the_kit() -> None:
    """Each method is in `CASES` of this file or of another test file that uses the kit."""
    shown = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        if "MergeMethodKit" in file.read_text():
            module = importlib.import_module(file.stem)
            shown |= {case.method.name for case in module.CASES}
    assert shown == set(METHODS)


def test_an_unknown_method_suggests_the_nearest_name() -> None:
    with pytest.raises(MergeError, match=r"'task_aritmetic'; did you mean task_arithmetic\?; known: linear"):
        get_method("task_aritmetic")


def _floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_linear_is_the_equal_average_by_default() -> None:
    linear, tensors = METHODS["linear"], [_floats(1, 1), _floats(3, 3)]
    assert linear.combine(tensors, [1.0, 1.0], {"normalise": True}).tolist() == [2.0] * 2
    assert linear.combine(tensors, [1.0, 1.0], {"normalise": False}).tolist() == [4.0] * 2


def test_sums_have_the_bits_of_float32_arithmetic_without_fma() -> None:
    """Product and sum are rounded separately, even if the processor has fused multiply-add."""
    generator = np.random.default_rng(0)
    one, other, third = (generator.standard_normal(1003, np.float32) for _ in range(3))
    weights = [np.float32(0.1), np.float32(1 / 3), np.float32(-0.7)]
    expected = (one * weights[0] + other * weights[1]) + third * weights[2]
    merged = weighted_sum([one, other, third], [float(weight) for weight in weights])
    np.testing.assert_array_equal(merged, expected, strict=True)


def test_weights_that_add_up_to_zero_cannot_be_normalised() -> None:
    ones = [_floats(1), _floats(1)]
    for weights in ([0.1, -0.1], [0.1 + 0.2, -0.3]):
        with pytest.raises(MergeError, match="add up to zero"):
            METHODS["linear"].combine(ones, weights, {"normalise": True})
    assert METHODS["linear"].combine(ones, [1.0, -1.0], {"normalise": False}).item() == 0
    assert sum_of_weights("linear", [0.1] * 10) == 1


@pytest.mark.parametrize("name", ["slerp", "multislerp"])
def test_weights_that_nearly_add_up_to_zero_are_refused(name: str) -> None:
    gram = np.array([[1.0, 0.2], [0.2, 1.0]])
    for weights in ([1.0, -1.0], [0.1 + 0.2, -0.3]):
        with pytest.raises(MergeError, match=f"{name}: the weights add up to zero"):
            METHODS[name].coefficients(gram, weights, METHODS[name].resolve({}))


def test_slerp_is_linear_for_parallel_and_zero_tensors() -> None:
    def share(one: list[float], other: list[float]) -> list[float]:
        vectors = np.array([one, other])
        return list(METHODS["slerp"].coefficients(vectors @ vectors.T, [0.75, 0.25], {}))

    assert share([1, 0], [2, 0]) == pytest.approx([0.75, 0.25])
    assert share([1, 0], [-2, 0]) == pytest.approx([0.75, 0.25])
    assert share([0, 0], [2, 1]) == pytest.approx([0.75, 0.25]), "a tensor of length zero has no direction"
    assert share([0, 0], [0, 0]) == pytest.approx([0.75, 0.25])
    assert share([1e-12, 0], [0, 1e-12]) == pytest.approx([math.sin(0.75 * math.pi / 2), math.sin(0.25 * math.pi / 2)])


def test_multislerp_keeps_frozen_tensors() -> None:
    """All task vectors of a frozen layer are zero, so they have no direction, and the layer does not move."""
    base = {"w": torch.tensor([1.0, -2.0])}
    moved = {"w": torch.tensor([1.5, -2.0])}
    for eps in (0.0, 1e-8):
        frozen = merge_state_dicts("multislerp", {"a": base, "b": base, "c": base}, base=base, eps=eps)
        assert frozen["w"].equal(base["w"])
        one = merge_state_dicts("multislerp", {"a": base, "b": moved, "c": base}, base=base, eps=eps)
        assert one["w"].tolist() == pytest.approx([1 + 0.5 / 3, -2.0])
    pair = {"a": {"w": torch.tensor([1.0, 0.0])}, "b": {"w": torch.tensor([-2.0, 0.0])}}
    assert merge_state_dicts("multislerp", pair)["w"].tolist() == [-0.5, 0.0]
    with pytest.raises(MergeError, match="multislerp: the sources cancel out"):
        merge_state_dicts("multislerp", {**pair, "c": {"w": torch.zeros(2)}})


def test_model_stock_does_not_depend_on_the_size_of_task_vectors() -> None:
    gram = np.array([[1.0, 0.5], [0.5, 1.0]])
    stock = METHODS["model_stock"]
    expected = list(stock.coefficients(gram, [1, 1], {}))
    assert expected == pytest.approx([1 / 3, 1 / 3])  # t = 2 · 0.5 / 1.5, shared by two
    for size in (1e-30, 1e-7, 1e9):
        assert list(stock.coefficients(gram * size, [1, 1], {})) == pytest.approx(expected)
    assert list(stock.coefficients(gram * 0, [1, 1], {})) == [0, 0]


def test_the_element_of_a_one_element_row_is_kept_with_the_mean_probability() -> None:
    """DELLA's probabilities vary by rank around the density; a single element has no rank to vary by."""
    sources, base = {"a": {"w": torch.ones(20_000, 1)}}, {"w": torch.zeros(20_000, 1)}
    kept = merge_state_dicts("della", sources, base=base, density=0.5, epsilon=0.8, rescale=False)["w"]
    assert abs(float(kept.mean()) - 0.5) < 0.02


@pytest.mark.parametrize("density", [1e-11, 1 - 1e-11])
def test_della_at_the_ends_of_its_range(density: float) -> None:
    sources, base = {"a": {"w": torch.ones(50, 4)}}, {"w": torch.zeros(50, 4)}
    kept = merge_state_dicts("della", sources, base=base, density=density, epsilon=0.0)["w"]
    assert kept.unique().tolist() == [float(density > 0.5)]


def test_the_share_of_a_mask_is_computed_in_decimal() -> None:
    """1 − 0.9 is slightly less than 0.1 in binary, but ten of a hundred elements must be kept."""
    sources, base = {"a": {"w": torch.arange(1.0, 101)}}, {"w": torch.zeros(100)}
    for drop in (0.1, 0.3, 0.7, 0.9, 0.93):
        merged = merge_state_dicts("mask", sources, base=base, mask="magnitude", drop=drop)
        assert int(merged["w"].count_nonzero()) == round(100 - 100 * drop)


def test_options_come_from_the_signature() -> None:
    @merge_method(needs="element", returns="weights", base="none")
    def clipped(
        tensors: list[np.ndarray], weights: list[float], *, density: float = 0.5, keep: bool = True
    ) -> np.ndarray:
        return tensors[0]

    assert clipped.name == "clipped"
    assert clipped.resolve({}) == {"density": 0.5, "keep": True}
    assert clipped.resolve({"density": "0.25", "keep": "false"}) == {"density": 0.25, "keep": False}
    with pytest.raises(MergeError, match=r"option density: should be a number"):
        clipped.resolve({"density": "much"})
    with pytest.raises(MergeError, match=r"did you mean density\?; known: density, keep"):
        clipped.resolve({"densty": 1})


def test_the_preset_has_the_options_of_the_paper() -> None:
    ties = METHODS["ties"]
    resolved = ties.resolve({"preset": "subspace"})
    subspace = {"drop": 0.1, "density": 0.2, "scope": "model", "elect": "plain", "normalise": False}
    assert resolved == subspace
    assert ties.resolve({"preset": "subspace", "density": 0.3}) == {**subspace, "density": 0.3}
    assert ties.resolve({"preset": "subspace", "least": 0, "rescale": False}) == subspace, "as before these options"
    assert ties.resolve({"preset": "subspace", "least": 1}) == {**subspace, "least": 1}
    assert ties.weights(["a", "b"], {}, {"preset": "subspace"}) == [0.5, 0.5]
    assert ties.weights(["a", "b"], {"a": 0.3}, {"preset": "subspace"}) == [0.3, 0.5]
    with pytest.raises(MergeError, match=r"unknown preset 'subspcae'; did you mean subspace\?"):
        ties.resolve({"preset": "subspcae"})
    with pytest.raises(MergeError, match="dare: unknown preset 'subspace'; known: none"):
        METHODS["dare"].resolve({"preset": "subspace"})
