"""Merging with native loops gives the same bits as merging with numpy."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmgrid.merging import MergeError, in_memory, merge_state_dicts
from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.engine import compiled_runs as compiled
from mmgrid.merging.engine import run as run_module
from mmgrid.merging.engine import threshold_search, thresholds
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.kernels.choice import VARIABLE, loops
from mmgrid.merging.methods import selection

pytestmark = pytest.mark.skipif(loops() is None, reason="needs native loops: a C compiler when mmgrid is installed")

Model = dict[str, Tensor]
SHAPES: dict[str, tuple[int, ...]] = {
    "embed.weight": (37, 129),
    "item_tower.layers.0.weight": (31, 200),
    "item_tower.layers.1.bias": (2049,),
    "layers.0.weight": (64, 64),
    "layers.1.norm": (1,),
    "none": (0, 3),
    "scalar": (),
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "linear, as given": ("linear", {"normalise": False}),
    "slerp": ("multislerp", {}),
    "nuslerp": ("nuslerp", {}),
    "task arithmetic": ("task_arithmetic", {}),
    "task arithmetic, mean": ("task_arithmetic", {"normalise": True, "scale": 0.7}),
    "task arithmetic by depth": ("task_arithmetic", {"scale": [0.0, 0.3, 1.0]}),
    "ties": ("ties", {"density": 0.29}),
    "ties by tensor": ("ties", {"density": 0.29, "scope": "tensor", "scale": -1.5}),
    "ties, plain": ("ties", {"density": 0.57, "elect": "plain", "normalise": False}),
    "ties, nothing": ("ties", {"density": 0.0}),
    "ties, all": ("ties", {"density": 1.0}),
    "ties by source": ("ties", {"density": {"a": 0.1, "b": 0.9}}),
    "subspace": ("ties", {"preset": "subspace"}),
    "dare": ("dare", {"drop": 0.4}),
    "dare, nearly all": ("dare", {"drop": 0.999999}),
    "dare, hardly any": ("dare", {"drop": 1e-6, "rescale": False}),
    "dare, then ties": ("dare", {"drop": 0.1, "inner": "ties", "normalise": True}),
    "dare by source": ("dare", {"drop": {"a": 0.0, "b": 0.5}}),
    "mask": ("mask", {"drop": 0.3, "mask": "magnitude", "rescale": True}),
    "breadcrumbs": ("breadcrumbs", {"density": 0.5, "gamma": 0.2}),
    "breadcrumbs by tower": ("breadcrumbs", {"gamma": 0.1, "scope": "tower", "inner": "ties"}),
    "della": ("della", {}),
    "della, plain": ("della", {"density": 0.4, "epsilon": 0.7, "rescale": False, "inner": "linear"}),
    "della, all": ("della", {"density": 1.0, "epsilon": 0.0}),
    "della, by source": ("della", {"density": {"a": 0.3, "b": 0.6}}),
    "rows, then ties": ("ties", {"stages": [{"drop": {}}, {"magnitude_drop": {}}], "density": 0.3, "scope": "tensor"}),
    "lines": ("lines", {}),
    "stages": ("task_arithmetic", {"stages": [{"trim": {"density": 0.7}}, {"drop": {"drop": 0.2}}, {"trim": {}}]}),
}
WEIGHTS = [None, {"a": 0.3, "b": -1.25, "c": 2.0}, {"a": 0.1, "b": 0.0, "c": -3e-41}]


def models(dtype: torch.dtype, n: int, seed: int = 0) -> tuple[dict[str, Model], Model]:
    """A base and `n` models that differ by a few units in the last place: many equal magnitudes, and zeros."""
    generator = torch.Generator().manual_seed(seed)
    base = {name: (torch.randn(shape, generator=generator) * 0.02).to(dtype) for name, shape in SHAPES.items()}
    sources = {}
    for number in range(n):
        update = {name: torch.randn(shape, generator=generator) * 0.0005 for name, shape in SHAPES.items()}
        own = {
            name: (base[name].float() + update[name] * (torch.rand(SHAPES[name], generator=generator) > 0.2))
            for name in base
        }
        sources["abcdef"[number]] = {name: tensor.to(dtype) for name, tensor in own.items()}
    return sources, base


@contextmanager
def in_runs_of(elements: int, *, counting: bool = False) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_module, exact_sums):
            patch.setattr(module, "DOT_BLOCK", 4)
        patch.setattr(in_memory, "run", functools.partial(run_module.run, elements=elements))
        patch.setattr(threshold_search, "_BINS", 1 << 12)
        if counting:
            patch.setattr(thresholds, "SMALL_GROUP", 10)
        yield


def both(merging: Callable[[], Model], *, by_loops: bool = True) -> Model:
    """The result of native loops; checks that it equals numpy's and that the loops were used (or not: `by_loops`)."""
    answered = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "off")
        expected = merging()
        patch.setenv(VARIABLE, "on")
        results = CompiledRuns.results

        def watched(*arguments: Any) -> Any:
            done = results(*arguments)
            answered.append(done is not None)
            return done

        patch.setattr(CompiledRuns, "results", watched)
        merged = merging()
    assert answered
    assert all(answered) == by_loops
    for name, tensor in expected.items():
        assert tensor.dtype == merged[name].dtype
        assert tensor.reshape(-1).view(torch.uint8).equal(merged[name].reshape(-1).view(torch.uint8)), name
    return merged


@pytest.mark.parametrize("case", METHODS)
def test_every_method_gives_the_same_bits(case: str) -> None:
    method, options = METHODS[case]
    for number, (dtype, out) in enumerate(
        [
            (torch.bfloat16, torch.bfloat16),
            (torch.float32, torch.float32),
            (torch.float16, torch.float16),
            (torch.bfloat16, torch.float32),
            (torch.float32, torch.bfloat16),
            (torch.float64, torch.float8_e5m2),
        ]
    ):
        two = method == "nuslerp" or isinstance(options.get("density", options.get("drop")), dict)
        sources, base = models(dtype, 2 if two else 3, number)
        weights = WEIGHTS[number % 3] if case != "slerp" else None
        if weights is not None:
            weights = {name: weights[name] for name in sources}
        below = None if method in ("linear", "multislerp") else base
        for elements, workers, counting in ((260, 2, True), (2052, 5, False), (1 << 20, 1, number % 2 == 0)):
            if elements < 2052 and number != list(METHODS).index(case) % 6:
                continue  # slow, so only for one type
            with in_runs_of(elements, counting=counting):
                both(
                    functools.partial(
                        merge_state_dicts,
                        method,
                        sources,
                        base=below,
                        weights=weights,
                        dtype=out,
                        workers=workers,
                        **options,
                    )
                )


def rows_of(kind: str, draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Differences whose order within a row is hard to find from a part of their bits."""
    if kind == "few values":
        return draw.integers(-3, 4, shape) / 1024
    if kind == "all sizes":
        return draw.normal(size=shape) * 10.0 ** draw.uniform(-30, 30, shape)
    near = 1 + draw.integers(0, 9 if kind == "nearly equal" else 1 << 12, shape) * 2.0**-23
    near[:, ::7] = draw.normal(size=near[:, ::7].shape) * 1e-30  # so that the highest bits differ, too
    return near


@pytest.mark.parametrize("kind", ["few values", "all sizes", "nearly equal", "equal but for the lowest bits"])
def test_ranks_within_rows_of_any_length_give_the_same_bits(kind: str) -> None:
    draw = np.random.default_rng(0)
    lengths = {1: 40, 2: 17, 7: 9, 8: 8, 9: 33, 64: 16, 100: 19, 513: 5, 1500: 9, 4096: 4, 4097: 3}
    source = {
        f"w{n}": torch.from_numpy(rows_of(kind, draw, (rows, n)).astype(np.float32)) for n, rows in lengths.items()
    }
    base = {name: torch.zeros_like(tensor) for name, tensor in source.items()}
    both(lambda: merge_state_dicts("della", {"a": source}, base=base, epsilon=0.5, density=0.5))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1 << 30),
    n=st.integers(1, 5),
    elements=st.sampled_from([516, 2048, 2052, 4100, 1 << 20]),
    workers=st.sampled_from([1, 2, 5]),
    counting=st.booleans(),
    density=st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
    drop=st.sampled_from([0.0, 0.1, 0.5, 0.97]),
    elect=st.sampled_from(["weighted", "plain"]),
    normalise=st.booleans(),
    mixed=st.booleans(),
)
def test_thresholds_masks_and_elections_give_the_same_bits(
    seed: int, n: int, elements: int, workers: int, counting: bool, density: float, drop: float, elect: str,
    normalise: bool, mixed: bool,
) -> None:  # fmt: skip
    sources, base = models(torch.bfloat16, n, seed)
    if mixed:  # sources with different types
        sources["a"] = {name: tensor.float() for name, tensor in sources["a"].items()}
    options = {"density": density, "drop": drop, "elect": elect, "normalise": normalise, "seed": seed}
    with in_runs_of(elements, counting=counting):
        both(lambda: merge_state_dicts("ties", sources, base=base, workers=workers, **options))


def test_numpy_handles_what_the_loops_do_not_support() -> None:
    sources, base = models(torch.bfloat16, 2)
    both(lambda: merge_state_dicts("pcb", sources, base=base), by_loops=False)
    for along in ("rows", "columns"):
        both(lambda along=along: merge_state_dicts("nuslerp", sources, along=along), by_loops=False)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("options", [{}, {"select": 0.3}, {"select": 0.9, "floor": 0.4}])
def test_spread_gives_the_same_bits(n: int, dtype: torch.dtype, options: dict[str, float]) -> None:
    sources, base = models(dtype, n)
    with in_runs_of(2052), pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_SAMPLED_FROM", 0)
        both(lambda: merge_state_dicts("sce", sources, base=base, **options))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["a", "(base)"])
def test_values_that_are_not_finite_give_the_same_error(bad: float, where: str) -> None:
    sources, base = models(torch.bfloat16, 2)
    (base if where == "(base)" else sources[where])["layers.0.weight"][5, 7] = bad
    messages = []
    for wanted in ("off", "on"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, wanted)
            with pytest.raises(MergeError, match="layers.0.weight") as caught:
                merge_state_dicts("ties", sources, base=base)
            messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_results_that_overflow_give_the_same_error() -> None:
    huge = {"w": torch.full((5000,), 3e38)}
    messages = []
    for wanted in ("off", "on"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, wanted)
            with pytest.raises(MergeError, match="do not fit") as caught:
                merge_state_dicts("linear", {"a": huge, "b": huge}, weights={"a": 3.0}, normalise=False)
            messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_numpy_handles_differences_that_overflow_float32() -> None:
    """The differences are infinite, and infinities times masks need not give the same bits in compiled code."""
    largest = torch.finfo(torch.bfloat16).max
    source, base = {"w": torch.full((40,), largest).bfloat16()}, {"w": torch.full((40,), -largest).bfloat16()}
    both(lambda: merge_state_dicts("ties", {"a": source}, base=base, density=0.5, scale=0.0), by_loops=False)


def test_a_merge_may_mix_loops_and_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, base = models(torch.bfloat16, 3)
    monkeypatch.setenv(VARIABLE, "off")
    expected = merge_state_dicts("ties", sources, base=base, preset="subspace")
    monkeypatch.setenv(VARIABLE, "on")
    turns = iter(range(1 << 20))
    monkeypatch.setattr(compiled, "loops", lambda: loops() if next(turns) % 3 else None)
    with in_runs_of(512, counting=True):
        merged = merge_state_dicts("ties", sources, base=base, preset="subspace", workers=2)
    assert next(turns) > 100
    assert all(tensor.equal(merged[name]) for name, tensor in expected.items())


def test_negative_zeros_keep_their_sign() -> None:
    sources, base = models(torch.float32, 2)
    for model in (*sources.values(), base):
        for tensor in model.values():
            tensor.flatten()[::3] = -0.0
    for method in ("linear", "task_arithmetic", "ties", "dare"):
        below = None if method == "linear" else base
        both(lambda method=method, below=below: merge_state_dicts(method, sources, base=below))
    merged = both(lambda: merge_state_dicts("task_arithmetic", sources, base=base, scale=0.0))
    assert np.signbit(merged["layers.0.weight"].numpy().ravel()[::3]).all()
