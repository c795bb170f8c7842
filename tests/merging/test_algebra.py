"""The algebra of merging: properties of every registered method that hold for all values."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from mmgrid.merging import METHODS, MergeError, in_memory, merge_state_dicts
from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.engine import run as run_module
from mmgrid.merging.engine import threshold_search, thresholds
from mmgrid.testing.merge_method import same_bits

Model = dict[str, Tensor]
SHAPES: dict[str, tuple[int, ...]] = {"embed.weight": (6, 5), "layers.0.weight": (4, 7), "layers.1.b": (9,), "n": ()}
NAMES = ("books", "games", "toys")
# Options with which a single source of weight 1 is returned.
OFF = {"density": 1.0, "drop": 0.0, "gamma": 0.0, "epsilon": 0.0, "first": 1.0, "last": 1.0}
EXACTLY = {"slerp": 2, "nuslerp": 2}
ALONE = ["linear", "task_arithmetic", "multislerp", "ties", "dare", "mask", "breadcrumbs", "della", "lines", "decay"]

ALL = list(METHODS)
DELTA = [name for name in ALL if METHODS[name].base == "required"]
# pcb ranks computed scores, and rounding changes ties; the others compare changes with a fixed size.
NOT_TO_SCALE = ("pcb", "ram", "ram_plus", "nearswap", "arcee_fusion", "karcher")
LINEAR_IN_WEIGHTS = ["task_arithmetic", "ties", "dare", "mask", "breadcrumbs", "della", "lines"]

settings.register_profile("algebra", parent=settings.get_profile("merging"), max_examples=8)
ALGEBRA = settings.get_profile("algebra")


def model_of(seed: int) -> Model:
    """Weights of any size and sign: continuous, with few distinct values (many ties), mostly zero, or mixed."""
    draw = np.random.default_rng(seed)
    model = {}
    for name, shape in SHAPES.items():
        kinds = [
            draw.normal(0, 10.0 ** draw.integers(-3, 4), shape),
            draw.integers(-3, 4, shape) / 4,
            draw.normal(0, 1, shape) * (draw.random(shape) < 0.2),
            draw.choice([0.0, 1e-5, 1.0, -1.0, 1000.0, 1 / 3], shape),
        ]
        model[name] = torch.from_numpy(np.asarray(kinds[draw.integers(4)], np.float32).reshape(shape))
    return model


# Models are drawn by seed, because hypothesis takes a hundred times longer to draw arrays than merging them takes.
MODELS = st.integers(0, 2**32 - 1).map(model_of)
SHARES = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0, 2.0])
WEIGHTS = st.fixed_dictionaries(dict.fromkeys(NAMES, SHARES))


def measured(kind: str | None, names: Iterable[str]) -> dict[str, Model] | None:
    """Statistics of sources by their names, for the methods that take them."""
    if kind is None:
        return None
    draws = {name: np.random.default_rng(NAMES.index(name)) for name in names}
    if kind == "fisher":
        return {
            name: {
                f"fisher:{tensor}": torch.from_numpy(np.asarray(draw.random(shape), np.float32))
                for tensor, shape in SHAPES.items()
            }
            for name, draw in draws.items()
        }
    inputs = {name: torch.from_numpy(draw.standard_normal((40, 7)).astype(np.float32)) for name, draw in draws.items()}
    return {name: {"gram:layers.0.weight": x.T @ x / 40} for name, x in inputs.items()}


def merged(name: str, sources: Mapping[str, Model], base: Model, **arguments: Any) -> Model:
    """Merges with the number of sources, the weights, the base and the options that the method takes."""
    method = METHODS[name]
    sources = dict(itertools.islice(sorted(sources.items()), EXACTLY.get(name)))
    weights = {key: weight for key, weight in arguments.pop("weights", {}).items() if key in sources}
    below = base if method.base == "required" else None
    known = {"workers": 1} | {
        key: value for key, value in arguments.items() if key not in OFF or key in method.options.model_fields
    }
    try:
        statistics = measured(method.statistics, sources)
        return merge_state_dicts(method, sources, base=below, weights=weights, statistics=statistics, **known)
    except MergeError as error:
        if "the sources cancel out" in str(error):
            reject()  # multislerp refuses to merge these
        if "takes no weights" not in str(error):
            raise
        return merge_state_dicts(method, sources, base=below, **known)


def assert_close(one: Model, other: Model, size: float, precision: float = 2e-6) -> None:
    for name in one:
        torch.testing.assert_close(one[name].float(), other[name].float(), rtol=0, atol=precision * max(size, 1e-30))


def largest(*models: Model) -> float:
    return max(float(tensor.abs().max()) for model in models for tensor in model.values())


def models(n: int) -> st.SearchStrategy[dict[str, Model]]:
    return st.fixed_dictionaries(dict.fromkeys(NAMES[:n], MODELS))


@contextmanager
def in_runs_of(elements: int, small_group: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_module, exact_sums):
            patch.setattr(module, "DOT_BLOCK", 4)
        patch.setattr(thresholds, "SMALL_GROUP", small_group)
        patch.setattr(threshold_search, "_BINS", 16)
        patch.setattr(thresholds, "_SAMPLE", 2)
        patch.setattr(in_memory, "run", functools.partial(run_module.run, elements=elements))
        yield


@pytest.mark.parametrize("name", DELTA)
@given(sources=models(3), base=MODELS, weights=WEIGHTS)
@settings(ALGEBRA)
def test_scale_zero_gives_the_base(name: str, sources: Any, base: Model, weights: Any) -> None:
    base["layers.1.b"][0] = -0.0
    assert same_bits(merged(name, sources, base, weights=weights, scale=0.0), dict(sorted(base.items())))


@pytest.mark.parametrize("name", ALONE)
@given(source=MODELS, base=MODELS)
@settings(ALGEBRA)
def test_one_source_with_weight_one_is_returned(name: str, source: Model, base: Model) -> None:
    """With density 1 and nothing dropped; as precisely as float32 represents the difference to the base."""
    result = merged(name, {"games": source}, base, **OFF)
    if METHODS[name].base == "none":
        assert same_bits(result, dict(sorted(source.items())))
    else:
        assert_close(result, source, largest(source, base), 2e-7)


@pytest.mark.parametrize("name", ALL)
@given(
    sources=models(3), base=MODELS, weights=WEIGHTS, order=st.permutations(NAMES), scale=st.sampled_from([0.3, -1.0])
)
@settings(ALGEBRA)
def test_the_order_of_sources_changes_no_bit(
    name: str, sources: Any, base: Model, weights: Any, order: list[str], scale: float
) -> None:
    scaled = {"scale": scale} if name in DELTA else {}
    shuffled = {source: dict(reversed(sources[source].items())) for source in order}
    one, other = (merged(name, some, base, weights=weights, **scaled) for some in (sources, shuffled))
    assert same_bits(one, other)


@pytest.mark.parametrize("name", ALL)
@given(
    sources=models(3),
    base=MODELS,
    weights=WEIGHTS,
    elements=st.sampled_from([4, 8, 12, 40]),
    workers=st.sampled_from([1, 2, 5]),
    small_group=st.sampled_from([0, 20, 1 << 20]),
)
@settings(ALGEBRA)
def test_runs_and_threads_change_no_bit(
    name: str, sources: Any, base: Model, weights: Any, elements: int, workers: int, small_group: int
) -> None:
    with in_runs_of(1 << 20, 1 << 20):
        whole = merged(name, sources, base, weights=weights, workers=1)
    with in_runs_of(elements, small_group):
        assert same_bits(merged(name, sources, base, weights=weights, workers=workers), whole)


@pytest.mark.parametrize("name", LINEAR_IN_WEIGHTS)
@given(sources=models(3), base=MODELS, weights=WEIGHTS, factor=st.sampled_from([0.25, 2.0, 4.0, 0.3, 7.0]))
@settings(ALGEBRA)
def test_scaling_all_weights_scales_the_delta(
    name: str, sources: Any, base: Model, weights: Any, factor: float
) -> None:
    scaled = {source: weight * factor for source, weight in weights.items()}
    one = merged(name, sources, base, weights=scaled, normalise=False)
    other = merged(name, sources, base, weights=weights, normalise=False, scale=factor)
    if factor in (0.25, 2.0, 4.0):  # only exponents change
        assert same_bits(one, other)
    size = 10 * factor * sum(weights.values()) * largest(base, *sources.values())
    if METHODS[name].stages(METHODS[name].resolve({})) == () or name == "lines":  # rounding cannot change a vote
        assert_close(one, other, size)
    divided = (merged(name, sources, base, weights=some, normalise=True) for some in (weights, scaled))
    if factor in (0.25, 2.0, 4.0):
        assert same_bits(*divided)


@pytest.mark.parametrize("name", DELTA)
@given(sources=models(3), base=MODELS, weights=WEIGHTS, scale=st.floats(-3, 3, width=32))
@settings(ALGEBRA)
def test_the_result_lies_on_a_line_through_the_base(
    name: str, sources: Any, base: Model, weights: Any, scale: float
) -> None:
    at_one = merged(name, sources, base, weights=weights)
    at_scale = merged(name, sources, base, weights=weights, scale=scale)
    expected = {key: (base[key].double() + scale * (at_one[key].double() - base[key].double())) for key in base}
    assert_close(at_scale, expected, (1 + abs(scale)) * largest(base, at_one, at_scale))


@pytest.mark.parametrize("name", DELTA)
@given(base=MODELS, weights=WEIGHTS)
@settings(ALGEBRA)
def test_sources_equal_to_the_base_give_the_base(name: str, base: Model, weights: Any) -> None:
    result = merged(name, {source: dict(base) for source in NAMES}, base, weights=weights)
    assert all(result[key].equal(base[key]) for key in base)


@pytest.mark.parametrize("name", [*ALONE, "slerp", "velocity", "acceleration", "model_stock"])
@given(source=MODELS, base=MODELS)
@settings(ALGEBRA)
def test_equal_sources_give_that_source(name: str, source: Model, base: Model) -> None:
    """Any average of equal sources is the source, with nothing dropped and Σ w = 1."""
    normalised = {"normalise": True} if name in LINEAR_IN_WEIGHTS else {}
    result = merged(name, dict.fromkeys(NAMES, source), base, **OFF, **normalised)
    size = largest(source, base)
    # multislerp adds `eps` to lengths, which matters for tensors that are nearly zero.
    precision = 1e-4 if name == "multislerp" else 2e-6
    assert_close(result, source, size, precision)


@pytest.mark.parametrize("name", [name for name in ALL if name not in NOT_TO_SCALE])
@given(sources=models(3), base=MODELS, weights=WEIGHTS, power=st.sampled_from([-3, 1, 6]))
@settings(ALGEBRA)
def test_scaling_all_tensors_scales_the_result(name: str, sources: Any, base: Model, weights: Any, power: int) -> None:
    """Multiplying all tensors by a power of two multiplies the result by it."""

    def scaled(model: Model) -> Model:
        return {key: tensor * 2.0**power for key, tensor in model.items()}

    one = merged(name, {source: scaled(model) for source, model in sources.items()}, scaled(base), weights=weights)
    other = scaled(merged(name, sources, base, weights=weights))
    if name == "multislerp":  # directions of single numbers are ±1, and may cancel out except for `eps`
        one, other = ({key: value for key, value in model.items() if value.numel() > 1} for model in (one, other))
    if "eps" in METHODS[name].options.model_fields or METHODS[name].whole_tensors:
        assert_close(one, other, 10 * largest(one, other), 1e-5)
    else:
        assert same_bits(one, other)


@settings(max_examples=30)
@given(sources=models(3), weights=WEIGHTS, shift=st.sampled_from([8.0, -0.5, 100.0]))
def test_linear_preserves_a_common_shift(sources: Any, weights: Any, shift: float) -> None:
    def moved(model: Model) -> Model:
        return {key: tensor.double() + shift for key, tensor in model.items()}

    plain = merge_state_dicts("linear", sources, weights=weights)
    result = merge_state_dicts("linear", {name: moved(model) for name, model in sources.items()}, weights=weights)
    assert_close(result, moved(plain), largest(*sources.values()) + abs(shift))


@settings(max_examples=30)
@given(sources=models(2), base=MODELS, step=st.floats(-2, 2, width=32))
def test_velocity_of_two_is_task_arithmetic_from_the_older(sources: Any, base: Model, step: float) -> None:
    """Θ(t2) + s (Θ(t2) − Θ(t1)) equals Θ(t1) + (1 + s) (Θ(t2) − Θ(t1))."""
    older, newer = sources["books"], sources["games"]
    one = merge_state_dicts("velocity", {"t1": older, "t2": newer}, step=step)
    other = merge_state_dicts("task_arithmetic", {"t2": newer}, base=older, scale=1 + step)
    assert_close(one, other, 4 * largest(older, newer))


@settings(max_examples=30)
@given(chain=models(3))
def test_acceleration_passes_through_its_checkpoints(chain: Any) -> None:
    for step, name in ((0.0, "toys"), (-1.0, "games"), (-2.0, "books")):
        result = merge_state_dicts("acceleration", chain, step=step)
        assert all(result[key].equal(chain[name][key]) for key in SHAPES)
