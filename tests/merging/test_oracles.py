"""Comparison with mergekit 0.1.5, peft and fusion-bench, for every method in common: equal to 1e-6 in float32.

The data are continuous, so that no equal magnitudes lie at a threshold, where each library keeps different ones.
Deliberate differences are not compared: mergekit rescales the elements that DARE and DELLA keep to the original L1 norm
(we divide by the probability); it computes in bfloat16; and peft divides by the number of agreeing task vectors, where
we divide by their weights.
"""

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kits import oracles, slow_merges
from mmgrid.merging import merge_state_dicts
from mmgrid.merging.methods.stages.random import happens, words

Model = dict[str, Tensor]
SHAPES = {"embed.weight": (64, 32), "layers.0.weight": (48, 64), "layers.0.bias": (96,), "layers.1.kernel": (4, 6, 10)}
MATRICES = {name: shape for name, shape in SHAPES.items() if len(shape) < 3}  # of mergekit's DELLA, rows are dim 1
NAMES = ("books", "games", "toys")
WEIGHTS = {"books": 0.5, "games": 0.3, "toys": 0.9}


def model(seed: int) -> Model:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


BASE = model(0)
SOURCES = {
    name: {key: BASE[key] + 0.1 * step for key, step in model(seed).items()} for seed, name in enumerate(NAMES, start=1)
}
DELTAS = {name: {key: source[key] - BASE[key] for key in source} for name, source in SOURCES.items()}


@pytest.fixture(scope="module")
def mergekit() -> ModuleType:
    return pytest.importorskip("mergekit.merge_methods", reason="mergekit is an oracle: pip install mergekit==0.1.5")


@pytest.fixture
def peft() -> ModuleType:
    return oracles.peft_merging()


def ours(method: str, names: tuple[str, ...] = NAMES, **arguments: Any) -> Model:
    sources = {name: SOURCES[name] for name in names}
    weights = arguments.pop("weights", {name: WEIGHTS[name] for name in names})
    return merge_state_dicts(method, sources, weights=weights, **arguments)


def theirs(
    mergekit: ModuleType, method: str, names: tuple[str, ...] = NAMES, *, base: bool = True, **parameters: Any
) -> Model:
    """mergekit's result; parameters per source exclude the base."""
    models = {**({"base": BASE} if base else {}), **{name: SOURCES[name] for name in names}}
    merged = mergekit.merge_state_dicts(
        models, method, parameters=parameters, base="base" if base else None, dtype=torch.float32
    )
    return {name: tensor.float() for name, tensor in merged.items()}


def shares(names: tuple[str, ...] = NAMES, factor: float = 1.0) -> dict[str, float]:
    return {name: WEIGHTS[name] * factor for name in names}


def assert_same(one: Model, other: Model, *, sparse: bool = False) -> None:
    """Equal to 1e-6 of the largest value; if elements are dropped, both drop the same ones."""
    assert one.keys() == other.keys()
    for name in one:
        size = float(other[name].abs().max())
        off = (one[name] - other[name]).abs().max() / size
        assert off < 1e-6, f"{name}: off by {off:.2g}"
        if sparse:
            start = BASE[name]
            assert (one[name] != start).equal(other[name] != start), f"{name}: different elements are kept"
            assert 0.02 < float((one[name] != start).float().mean()) < 0.98


# ---- mergekit


@pytest.mark.parametrize("normalise", [True, False])
def test_linear(mergekit: ModuleType, normalise: bool) -> None:
    other = theirs(mergekit, "linear", base=False, weight=shares(), normalize=normalise)
    assert_same(ours("linear", normalise=normalise), other)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.4, -0.7])
def test_task_arithmetic(mergekit: ModuleType, normalise: bool, scale: float) -> None:
    other = theirs(mergekit, "task_arithmetic", weight=shares(), normalize=normalise, **{"lambda": scale})
    assert_same(ours("task_arithmetic", base=BASE, scale=scale, normalise=normalise), other)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp(mergekit: ModuleType, t: float) -> None:
    pair = {"a": SOURCES["books"], "b": model(7)}
    other = mergekit.merge_state_dicts(pair, "slerp", parameters={"t": t}, base="a", dtype=torch.float32)
    assert_same(merge_state_dicts("slerp", pair, weights={"a": 1 - t, "b": t}), dict(other))


def test_slerp_of_nearly_parallel_tensors(mergekit: ModuleType) -> None:
    near = {name: tensor + 1e-3 * SOURCES["games"][name] for name, tensor in SOURCES["books"].items()}
    pair = {"a": SOURCES["books"], "b": near}
    other = mergekit.merge_state_dicts(pair, "slerp", parameters={"t": 0.3}, base="a", dtype=torch.float32)
    assert_same(merge_state_dicts("slerp", pair, weights={"a": 0.7, "b": 0.3}), dict(other))


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
def test_multislerp(mergekit: ModuleType, with_base: bool, normalise: bool) -> None:
    other = theirs(mergekit, "multislerp", base=with_base, weight=shares(), normalize_weights=normalise)
    assert_same(ours("multislerp", base=BASE if with_base else None, normalise=normalise), other)


@pytest.mark.parametrize("n", [2, 3])
def test_model_stock(mergekit: ModuleType, n: int) -> None:
    """The sources share part of their change, like trained models; otherwise the angle would be arbitrary."""
    common = model(9)
    near = {name: {key: tensor + 0.1 * common[key] for key, tensor in SOURCES[name].items()} for name in NAMES[:n]}
    other = mergekit.merge_state_dicts({"base": BASE, **near}, "model_stock", base="base", dtype=torch.float32)
    assert_same(merge_state_dicts("model_stock", near, base=BASE), dict(other))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties(mergekit: ModuleType, density: float, normalise: bool) -> None:
    other = theirs(mergekit, "ties", weight=shares(), density=density, normalize=normalise, **{"lambda": 0.8})
    merged = ours("ties", base=BASE, scale=0.8, density=density, scope="tensor", normalise=normalise)
    assert_same(merged, other, sparse=density == 0.1)


def test_ties_with_a_density_for_each_source(mergekit: ModuleType) -> None:
    densities = {"books": 0.1, "games": 0.5, "toys": 0.25}
    other = theirs(mergekit, "ties", weight=shares(), density=densities)
    assert_same(ours("ties", base=BASE, density=densities, scope="tensor"), other)


@pytest.mark.parametrize("inner", ["linear", "ties"])
@pytest.mark.parametrize(("density", "gamma"), [(0.5, 0.25), (0.125, 0.0), (0.75, 0.125)])
def test_breadcrumbs(mergekit: ModuleType, inner: str, density: float, gamma: float) -> None:
    method = "breadcrumbs" if inner == "linear" else "breadcrumbs_ties"
    settings = {"density": density, "gamma": gamma}
    other = theirs(mergekit, method, weight=shares(), normalize=False, rescale=False, **settings)
    merged = ours("breadcrumbs", base=BASE, inner=inner, normalise=False, **settings)
    assert_same(merged, other, sparse=density == 0.125)


@cache
def _mask(source: str, tensor: str, drop: float) -> np.ndarray:
    place = slow_merges.place(source, tensor, np.empty(SHAPES[tensor]))
    return ~happens(place, int(np.prod(SHAPES[tensor])), drop)


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Replaces the random draws of mergekit and peft by ours, for the given (source, tensor) in this order."""
    places: list[tuple[str, str]] = []

    def bernoulli(probabilities: Tensor, *arguments: Any, **others: Any) -> Tensor:
        source, tensor = places.pop(0)
        assert probabilities.numel() == int(np.prod(SHAPES[tensor]))
        flat = probabilities.reshape(-1).double().numpy()
        if (flat == flat[0]).all():
            kept = _mask(source, tensor, 1 - round(float(flat[0]), 6))
        else:  # DELLA's: by rank
            place = slow_merges.place(source, tensor, np.empty(SHAPES[tensor]))
            kept = words(place, len(flat)) / 2**32 < flat
        return torch.from_numpy(kept.astype(np.float32)).reshape(probabilities.shape)

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    yield places
    assert not places, "all draws were used"


@pytest.mark.parametrize("inner", ["linear", "ties"])
@pytest.mark.parametrize("drop", [0.1, 0.75])
@pytest.mark.parametrize("normalise", [True, False])
def test_dare_with_the_same_masks(
    mergekit: ModuleType, injected: list[tuple[str, str]], inner: str, drop: float, normalise: bool
) -> None:
    """mergekit's `dare_ties` trims nothing; it corresponds to our `dare` with the inner method `ties`."""
    injected += [(source, tensor) for tensor in SHAPES for source in NAMES]
    settings = {"density": 1 - drop, "rescale": False, "normalize": normalise}
    other = theirs(mergekit, f"dare_{inner}", weight=shares(), **settings)
    merged = ours("dare", base=BASE, inner=inner, drop=drop, rescale=False, normalise=normalise)
    assert_same(merged, other, sparse=drop == 0.75)
    if inner == "linear" and not normalise:  # a factor on a task vector acts like a factor on its weight
        injected += [(source, tensor) for tensor in SHAPES for source in NAMES]
        other = theirs(mergekit, "dare_linear", weight=shares(factor=1 / (1 - drop)), **settings)
        assert_same(ours("dare", base=BASE, drop=drop), other)


@pytest.mark.parametrize("inner", ["linear", "ties"])
@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.8), (0.3, 0.2)])
def test_della_with_the_same_draws(
    mergekit: ModuleType, injected: list[tuple[str, str]], inner: str, density: float, epsilon: float
) -> None:
    """mergekit's epsilon is the distance from the mean, ours (the paper's) the distance between the two ends."""
    models = {name: {key: tensors[key] for key in MATRICES} for name, tensors in {"base": BASE, **SOURCES}.items()}
    injected += [(source, tensor) for tensor in MATRICES for source in NAMES]
    parameters = {
        "weight": shares(),
        "density": density,
        "epsilon": epsilon / 2,
        "rescale": False,
        "normalize": inner == "ties",
    }
    method = "della" if inner == "ties" else "della_linear"
    other = mergekit.merge_state_dicts(models, method, parameters=parameters, base="base", dtype=torch.float32)
    base = models.pop("base")
    options = {"density": density, "epsilon": epsilon, "rescale": False, "normalise": inner == "ties"}
    merged = merge_state_dicts("della", models, base=base, weights=shares(), inner=inner, **options)
    assert_same(merged, dict(other), sparse=density == 0.3)


@pytest.mark.parametrize(("method", "options"), [("dare_linear", {}), ("della_linear", {"epsilon": 0.2})])
def test_rates_equal_those_of_mergekits_draws(mergekit: ModuleType, method: str, options: dict[str, float]) -> None:
    torch.manual_seed(0)
    n = 400
    base, source = {"w": torch.zeros(n, n)}, {"w": torch.randn(n, n)}
    parameters = {"weight": {"a": 1.0}, "density": 0.6, "rescale": False, **options}
    other = mergekit.merge_state_dicts(
        {"base": base, "a": source}, method, parameters=parameters, base="base", dtype=torch.float32
    )
    settings = {"drop": 0.4} if method == "dare_linear" else {"density": 0.6, "epsilon": 0.4, "inner": "linear"}
    merged = merge_state_dicts(method.split("_")[0], {"a": source}, base=base, rescale=False, **settings)
    large = source["w"].abs() > source["w"].abs().median()
    bound = 5 * (0.6 * 0.4 / (n * n / 2)) ** 0.5
    for chosen in (large, ~large):
        rates = [float((result["w"][chosen] != 0).float().mean()) for result in (merged, other)]
        assert abs(rates[0] - rates[1]) < 2 * bound


# ---- peft: functions of the task vectors of one tensor


def _stacked(tensor: str, names: tuple[str, ...] = NAMES) -> list[Tensor]:
    return [DELTAS[name][tensor] for name in names]


def _peft(function: Any, weight: dict[str, float], **options: Any) -> Model:
    weights = torch.tensor([weight[name] for name in NAMES])
    return {name: BASE[name] + function(_stacked(name), weights, **options) for name in SHAPES}


def test_peft_task_arithmetic(peft: ModuleType) -> None:
    assert_same(ours("task_arithmetic", base=BASE), _peft(peft.task_arithmetic, WEIGHTS))


@pytest.mark.parametrize("density", [0.25, 0.5])
def test_peft_magnitude_prune(peft: ModuleType, density: float) -> None:
    merged = ours("mask", base=BASE, mask="magnitude", drop=1 - density)
    assert_same(merged, _peft(peft.magnitude_prune, WEIGHTS, density=density), sparse=True)


@pytest.mark.parametrize("density", [0.125, 0.5])
def test_peft_ties(peft: ModuleType, density: float) -> None:
    """With plain votes. peft divides by the number of agreeing sources: our disjoint mean under equal weights."""
    equal = dict.fromkeys(NAMES, 1.0)
    merged = ours("ties", base=BASE, weights=equal, density=density, scope="tensor", elect="plain")
    assert_same(merged, _peft(peft.ties, equal, density=density), sparse=density == 0.125)
    half = ours("ties", base=BASE, weights=equal, scale=0.5, density=density, scope="tensor", elect="plain")
    assert_same(half, _peft(peft.ties, dict.fromkeys(NAMES, 0.5), density=density))


@pytest.mark.parametrize("inner", ["linear", "ties"])
@pytest.mark.parametrize("drop", [0.25, 0.75])
def test_peft_dare_with_the_same_masks(
    peft: ModuleType, injected: list[tuple[str, str]], inner: str, drop: float
) -> None:
    """peft divides by the density, as the paper and we do."""
    weights = WEIGHTS if inner == "linear" else dict.fromkeys(NAMES, 1.0)
    injected += [(source, tensor) for tensor in SHAPES for source in NAMES]
    other = _peft(getattr(peft, f"dare_{inner}"), weights, density=1 - drop)
    options = {"inner": "ties", "elect": "plain", "normalise": True} if inner == "ties" else {}
    assert_same(ours("dare", base=BASE, weights=weights, drop=drop, **options), other, sparse=drop == 0.75)


# ---- fusion-bench: TIES's authors' code, with one threshold over the whole model


@pytest.mark.parametrize(("combination", "normalise"), [("mean", True), ("sum", False)])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_ties_over_the_whole_model(combination: str, normalise: bool, share: float) -> None:
    """Their code keeps one element more than the share, because it includes the k-th smallest; ours is set to match."""
    module = oracles.fusion_bench("method.ties_merging.ties_merging_utils")
    scaled = {  # layers of different sizes, so that one threshold is not that of each tensor
        name: {key: tensor * (1 + 3 * number) for number, (key, tensor) in enumerate(sorted(delta.items()))}
        for name, delta in DELTAS.items()
    }
    flat = torch.stack([torch.cat([delta[key].reshape(-1) for key in sorted(SHAPES)]) for delta in scaled.values()])
    n = flat.shape[1]
    merged = merge_state_dicts(
        "ties",
        scaled,
        base={name: torch.zeros(shape) for name, shape in SHAPES.items()},
        density=(int(n * share) + 1.5) / n,
        elect="plain",
        normalise=normalise,
    )
    result = torch.cat([merged[key].reshape(-1) for key in sorted(SHAPES)])
    expected = module.ties_merging(flat, reset_thresh=share, merge_func=f"dis-{combination}")
    assert (result != 0).equal(expected != 0)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
