"""The methods that mergekit brought: against slow references, and against mergekit itself in float32 and float64."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmgrid.merging import METHODS, MergeError, merge_state_dicts
from mmgrid.testing.merge_method import MergeMethodKit, MethodCase

Array = np.ndarray
Options = Mapping[str, Any]


def _of_tensors(merge: Callable[[list[Array], list[float], Options, Array], Array]) -> Any:
    """A reference from a function of one tensor's τᵢ (θᵢ without a base) and θ₀."""

    def reference(sources: Any, base: Any, weights: Mapping[str, float], options: Options) -> dict[str, Array]:
        merged, names = {}, sorted(sources)
        for tensor, first in sources[names[0]].items():
            below = np.zeros(first.shape) if base is None else base[tensor]
            changes = [sources[name][tensor] - below for name in names]
            delta = merge(changes, [weights[name] for name in names], options, below) if first.size else first - below
            merged[tensor] = below + delta
        return merged

    return reference


def _nearswap(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    share = [np.minimum(options["t"] / np.maximum(np.abs(change), 1e-30), 1.0) for change in changes]
    return sum(weight * part * change for weight, part, change in zip(weights, share, changes, strict=True))  # type: ignore[return-value]


def _ram(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    stacked = np.stack(changes)
    changed = np.abs(stacked) > options["epsilon"]
    counts = changed.sum(axis=0)
    factors = np.ones(len(changes))
    if "reward" in options:
        for number, own in enumerate(changed):
            alone, shared = (own & (counts == 1)).sum(), (own & (counts > 1)).sum()
            factors[number] = 1 + options["reward"] * min(shared / max(alone, 1e-5), options["cap"])
    scaled = stacked * np.where(counts == 1, factors.reshape(-1, *[1] * below.ndim), 1.0)
    return (scaled * changed).sum(axis=0) / np.maximum(counts, 1)


def _sce(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    stacked = np.stack(changes).reshape(len(changes), -1)
    if options["select"] < 1:
        variance = stacked.var(axis=0)
        k = math.floor(round(options["select"] * int((variance > 1e-30).sum()), 9))
        kept = np.zeros(stacked.shape[1])
        kept[np.argsort(-variance, kind="stable")[:k]] = 1
        stacked = stacked * kept
    means = (stacked**2).mean(axis=1)
    shares = means / means.sum() if means.sum() > options["floor"] else np.full(len(changes), 1 / len(changes))
    agrees = (np.sign(stacked) == np.where(stacked.sum(axis=0) >= 0, 1, -1)) * shares[:, None]
    divisor = np.maximum(agrees.sum(axis=0), max(options["floor"], 1e-30))
    return ((agrees * stacked).sum(axis=0) / divisor).reshape(below.shape)


def _karcher(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    if len(changes) == 1:
        return changes[0]
    shares = np.array(weights) / sum(weights)
    flat = np.stack([change.ravel() for change in changes])
    lengths = np.linalg.norm(flat, axis=1)
    unit = flat / lengths[:, None]
    mean = shares @ unit / np.linalg.norm(shares @ unit)
    for _ in range(options["max_iter"]):
        angles = np.arccos(np.clip(unit @ mean, -1, 1))
        tangents = unit - np.cos(angles)[:, None] * mean
        sizes = np.linalg.norm(tangents, axis=1)  # sin of the angle
        step = sum(s * a * v / n for s, a, v, n in zip(shares, angles, tangents, sizes, strict=True) if n > 1e-7)
        size = float(np.linalg.norm(step))
        if size <= options["tol"]:
            break
        mean = math.cos(size) * mean + math.sin(size) * step / size
    return (shares @ lengths * mean).reshape(below.shape)


def _nuslerp(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    t = weights[1] / sum(weights)
    along = options["along"] if below.ndim else "tensor"
    axis = {"tensor": 0, "rows": -1, "columns": 0}[along]
    one, other = (change.reshape(-1) if along == "tensor" else change for change in changes)

    def blend(first: Array, second: Array) -> Array:
        cosine = np.clip(first @ second / np.linalg.norm(first) / np.linalg.norm(second), -1, 1)
        angle = math.acos(cosine)
        if math.sin(angle) < 1e-7:
            return (1 - t) * first + t * second
        return (math.sin((1 - t) * angle) * first + math.sin(t * angle) * second) / math.sin(angle)

    n = one.shape[axis]
    both = np.concatenate([np.moveaxis(one, axis, -1), np.moveaxis(other, axis, -1)], axis=-1)
    found = np.apply_along_axis(lambda pair: blend(pair[:n], pair[n:]), -1, both)
    return np.moveaxis(found, -1, axis).reshape(below.shape)


def _model_stock_filters(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    width = below.shape[-1] if below.ndim else 1
    rows, n = [change.reshape(-1, width) for change in changes], len(changes)
    result = np.zeros(rows[0].shape)
    for number in range(len(result)):
        own = [part[number] for part in rows]
        cosines = [
            one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), options["eps"], 1e-30)
            for one, other in itertools.combinations(own, 2)
        ]
        cosine = sum(cosines) / len(cosines)
        if abs(1 + (n - 1) * cosine) > 1e-6:
            result[number] = n * cosine / (1 + (n - 1) * cosine) * sum(own) / n
    return result.reshape(below.shape)


def _arcee_fusion(changes: list[Array], weights: list[float], options: Options, below: Array) -> Array:
    def spread(rows: Array) -> Array:
        powers = np.exp(rows)
        return powers / powers.sum(axis=-1, keepdims=True) + 1e-8

    total = np.zeros(below.shape)
    for change, weight in zip(changes, weights, strict=True):
        there, here = spread(np.atleast_1d(below + change)), spread(np.atleast_1d(below))
        importance = np.abs(change) * (there * np.log(there / here)).sum(axis=-1, keepdims=True).reshape(
            (*below.shape[:-1], 1) if below.ndim else ()
        )
        ordered = np.sort(importance, axis=None)
        low, middle, high = (ordered[int(share * (ordered.size - 1))] for share in (0.25, 0.5, 0.75))
        total += weight * np.where(importance >= middle + 1.5 * (high - low), change, 0.0)
    return total


def _case(name: str, reference: Any, **facts: Any) -> MethodCase:
    return MethodCase(METHODS[name], _of_tensors(reference), **facts)


CASES = [
    _case("nearswap", _nearswap, options={"t": 0.5}, identity={"t": 100.0}, scaled_weights="scale it"),
    _case("ram", _ram, options={"epsilon": 0.8}, identity={"epsilon": 0.0}, weighted=False, sparse=True),
    _case("ram_plus", _ram, options={"epsilon": 1.5}, identity={"epsilon": 0.0}, weighted=False, sparse=True),
    _case("ram_plus", _ram, options={"epsilon": 1.2, "cap": 3.0}, identity={"epsilon": 0.0}, weighted=False),
    _case("sce", _sce, weighted=False),
    _case("sce", _sce, options={"select": 0.3}, identity={"select": 1.0}, weighted=False, sparse=True),
    _case("sce", _sce, options={"floor": 0.4}, weighted=False),
    _case("karcher", _karcher),
    _case("karcher", _karcher, n_sources=4, options={"max_iter": 2, "tol": 0.0}),
    _case("nuslerp", _nuslerp, n_sources=2, identity=None),
    _case("nuslerp", _nuslerp, n_sources=2, identity=None, base=True),
    _case("nuslerp", _nuslerp, n_sources=2, identity=None, base=True, options={"along": "rows"}),
    _case("nuslerp", _nuslerp, n_sources=2, identity=None, options={"along": "columns"}),
    _case("model_stock_filters", _model_stock_filters, identity=None, weighted=False),
    _case("arcee_fusion", _arcee_fusion, identity=None, scaled_weights="scale it"),
]


class TestAgainstTheKit(MergeMethodKit):
    @pytest.fixture(params=CASES, ids=lambda case: case.label)
    def case(self, request: pytest.FixtureRequest) -> MethodCase:
        return request.param

    def test_one_source_with_weight_one_gives_that_source(self, case, sources, base) -> None:
        if case.method.name == "arcee_fusion":
            pytest.skip("it never takes over everything")
        super().test_one_source_with_weight_one_gives_that_source(case, sources, base)


# ---- mergekit

SHAPES = {"embed.weight": (64, 32), "layers.0.weight": (48, 64), "layers.0.bias": (96,), "layers.1.kernel": (4, 6, 10)}
NAMES = ("books", "games", "toys")


def model(seed: int, near: Mapping[str, Tensor] | None = None, distance: float = 0.1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return drawn if near is None else {name: near[name] + distance * step for name, step in drawn.items()}


BASE = model(0)


@pytest.fixture(scope="module")
def mergekit() -> ModuleType:
    return pytest.importorskip("mergekit.merge_methods", reason="mergekit is an oracle: pip install mergekit==0.1.5")


def assert_as_mergekit(
    mergekit: ModuleType,
    theirs: str,
    parameters: Mapping[str, Any],
    ours: str,
    options: Mapping[str, Any],
    *,
    names: Sequence[str] = NAMES,
    weights: Mapping[str, float] | None = None,
    base: bool = True,
    distance: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    sources = {name: model(seed, BASE, distance) for seed, name in enumerate(names, 1)}
    models = {**({"base": BASE} if base else {}), **sources}
    wide = {name: {key: tensor.to(dtype) for key, tensor in own.items()} for name, own in models.items()}
    other = mergekit.merge_state_dicts(
        wide, theirs, parameters=dict(parameters), base="base" if base else None, dtype=dtype
    )
    merged = merge_state_dicts(ours, sources, base=BASE if base else None, weights=weights, **options)
    for name, tensor in merged.items():
        off = float((tensor.double() - other[name].double()).abs().max() / other[name].double().abs().max())
        assert off < 1e-6, f"{name}: off by {off:.2g}"
    return merged


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize(
    ("settings", "along"),
    [
        ({}, "tensor"),
        ({"nuslerp_flatten": False}, "rows"),
        ({"nuslerp_flatten": False, "nuslerp_row_wise": True}, "columns"),
    ],
)
def test_nuslerp(mergekit: ModuleType, base: bool, settings: dict[str, bool], along: str) -> None:
    weights = {"books": 0.3, "games": 0.9}
    options = {"along": along}
    assert_as_mergekit(
        mergekit,
        "nuslerp",
        {"weight": weights, **settings},
        "nuslerp",
        options,
        names=NAMES[:2],
        weights=weights,
        base=base,
        distance=1.0,
        # Nearly opposite columns of four elements multiply rounding errors by 1 / sin Ω.
        dtype=torch.float64 if along == "columns" else torch.float32,
    )


@pytest.mark.parametrize("distance", [0.1, 3.0])
@pytest.mark.parametrize("max_iter", [1, 10])
def test_karcher(mergekit: ModuleType, distance: float, max_iter: int) -> None:
    settings = {"max_iter": max_iter}
    assert_as_mergekit(mergekit, "karcher", settings, "karcher", settings, base=False, distance=distance)


@pytest.mark.parametrize("select", [1.0, 0.5, 0.1, 0.0])
@pytest.mark.parametrize("distance", [0.1, 1e-4])
def test_sce(mergekit: ModuleType, select: float, distance: float) -> None:
    """With changes of 10⁻⁴ the mean squares are below mergekit's floor."""
    options = {"select": select, "floor": 1e-6}
    assert_as_mergekit(mergekit, "sce", {"select_topk": select}, "sce", options, distance=distance)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_ram(mergekit: ModuleType, epsilon: float) -> None:
    settings = {"epsilon": epsilon}
    plain = assert_as_mergekit(mergekit, "ram", settings, "ram", settings)
    plus = assert_as_mergekit(
        mergekit,
        "ramplus_tl",
        {"r": 0.5, "alpha": 1.5, **settings},
        "ram_plus",
        {"reward": 0.5, "cap": 1.5, **settings},
    )
    assert (epsilon == 0.1) == any(not plain[name].equal(plus[name]) for name in plain)


@pytest.mark.parametrize("t", [0.0, 1e-7, 1e-4, 0.1, 5.0])
def test_nearswap(mergekit: ModuleType, t: float) -> None:
    assert_as_mergekit(mergekit, "nearswap", {"t": t}, "nearswap", {"t": t}, names=NAMES[:1])


def test_arcee_fusion(mergekit: ModuleType) -> None:
    """In float64: in float32 mergekit's small divergences are mostly rounding error, and decide what is kept."""
    merged = assert_as_mergekit(mergekit, "arcee_fusion", {}, "arcee_fusion", {}, names=NAMES[:1], dtype=torch.float64)
    for name, tensor in merged.items():
        assert 0.01 < float((tensor != BASE[name]).float().mean()) < 0.3


@pytest.mark.parametrize("distance", [0.1, 1e-5])
@pytest.mark.parametrize("filters", [False, True])
def test_model_stock(mergekit: ModuleType, filters: bool, distance: float) -> None:
    """With changes of 10⁻⁵ the lengths are below mergekit's least divisor."""
    ours = "model_stock_filters" if filters else "model_stock"
    assert_as_mergekit(mergekit, "model_stock", {"filter_wise": filters}, ours, {"eps": 1e-6}, distance=distance)


@pytest.mark.parametrize("method", ["ram", "ram_plus", "sce", "model_stock_filters"])
def test_weights_are_refused_where_the_method_finds_them(method: str) -> None:
    sources = {name: model(seed, BASE) for seed, name in enumerate(NAMES, 1)}
    with pytest.raises(MergeError, match=f"{method}: takes no weights"):
        merge_state_dicts(method, sources, base=BASE, weights={"books": 2.0})


def test_nuslerp_takes_two_sources() -> None:
    with pytest.raises(MergeError, match="nuslerp: takes two sources, not 1"):
        merge_state_dicts("nuslerp", {"books": BASE})


def test_opposite_and_zero_tensors_have_no_angle() -> None:
    one, zero = {"a": torch.tensor([3.0, 4.0])}, {"a": torch.zeros(2)}
    opposite = {"a": torch.tensor([-3.0, -4.0])}
    assert merge_state_dicts("nuslerp", [one, opposite], weights=[3, 1])["a"].tolist() == [1.5, 2.0]
    torch.testing.assert_close(merge_state_dicts("nuslerp", [one, zero])["a"], one["a"] * math.sqrt(0.5))
    torch.testing.assert_close(merge_state_dicts("karcher", [one, zero])["a"], one["a"] / 2)
    assert merge_state_dicts("karcher", [zero, zero])["a"].tolist() == [0.0, 0.0]
    torch.testing.assert_close(merge_state_dicts("karcher", [one, opposite])["a"], one["a"])
