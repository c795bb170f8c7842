"""The kit of tests that every merge method passes.

Subclass `MergeMethodKit` in a test file and define the fixture `case`:

    class TestMine(MergeMethodKit):
        @pytest.fixture(params=[{}, {"sharp": True}], ids=str)
        def case(self, request):
            return MethodCase(METHODS["mine"], reference, options=request.param)

A case contains the method, the options of all tests, and a slow reference: a function of whole models in float64, so
that quantities over a whole model (a threshold, an angle) can be computed directly. See `slow_merges` for the
references of the package's methods.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from mmgrid.merging import MergeError, Method, in_memory, merge_state_dicts
from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.engine import run as run_module
from mmgrid.merging.engine import threshold_search, thresholds

# reference(sources by name, base, weights by name, all options) → the merged model at λ = 1, all in float64
Reference = Callable[
    [
        Mapping[str, dict[str, np.ndarray]],
        dict[str, np.ndarray] | None,
        Mapping[str, float],
        Mapping[str, Any],
    ],
    dict[str, np.ndarray],
]
Model = dict[str, Tensor]
# statistics(source, tensor, its shape) → what was measured, or None for a tensor without
Statistics = Callable[[str, str, tuple[int, ...]], np.ndarray | None]

# Two towers, several kinds of layers, tensors of zero to three dimensions, one of them empty.
SHAPES: dict[str, tuple[int, ...]] = {
    "embed_tokens.weight": (13, 6),
    "layers.0.bias": (19,),
    "layers.0.weight": (7, 33),
    "layers.1.scale": (),
    "layers.1.weight": (5, 9),
    "layers.2.empty": (0, 4),
    "layers.2.kernel": (2, 3, 5),
    "norm.weight": (6,),
    "user_tower.embed.weight": (8, 3),
    "user_tower.layers.0.weight": (9, 8),
    "user_tower.layers.1.weight": (4, 5),
}
NAMES = ("books", "games", "toys", "videos")
PRECISION = 1e-6  # of the result, relative to the largest value that enters an element


@dataclass(frozen=True)
class MethodCase:
    """A method with its reference and the facts that the tests need.

    Attributes:
        method: the method.
        reference: a slow implementation; it gets the resolved options.
        options: options of all tests.
        identity: changes to `options` with which a single source of weight 1 is returned; None for a method that needs
            several sources.
        n_sources: number of sources in the tests.
        base: whether to give a base if it is optional.
        weighted: whether the sources' weights may differ.
        scaled_weights: the effect of a common factor of all weights on the delta (without a base, on the parameters).
        sparse: whether the reference drops elements; the same elements must keep the base's bits.
        statistics: for a method that takes them; the reference gets the same ones by calling it.
    """

    method: Method
    reference: Reference
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] | None = field(default_factory=dict)
    n_sources: int = 3
    base: bool = False
    weighted: bool = True
    scaled_weights: Literal["scale it", "change nothing"] = "change nothing"
    sparse: bool = False
    statistics: Statistics | None = None

    @property
    def has_base(self) -> bool:
        return self.base or self.method.base == "required"

    @property
    def label(self) -> str:
        """The test id."""
        parts = [f"{key}={value}" for key, value in self.options.items()]
        return "-".join([self.method.name, *(["base"] if self.base else []), *parts])

    def weights(self) -> dict[str, float]:
        """Different weights, so that a mix-up shows; equal ones if the method takes no weights."""
        shares = (0.5, 0.9, 0.2, 0.35) if self.weighted else (1.0, 1.0, 1.0, 1.0)
        return dict(zip(NAMES[: self.n_sources], shares, strict=False))

    def merge(self, sources: Mapping[str, Model], base: Model | None, **arguments: Any) -> Model:
        """Merges with the engine; `arguments` as for `merge_state_dicts`."""
        measured = None if self.statistics is None else {name: self._measured(name, sources[name]) for name in sources}
        return merge_state_dicts(self.method, sources, base=base, statistics=measured, **{**self.options, **arguments})

    def _measured(self, source: str, model: Model) -> Model:
        """The file of statistics of a source."""
        assert self.statistics is not None
        found = {name: self.statistics(source, name, tuple(tensor.shape)) for name, tensor in sorted(model.items())}
        kind = self.method.statistics
        return {
            f"{kind}:{name}": torch.tensor(one, dtype=torch.float32) for name, one in found.items() if one is not None
        }


def random_model(seed: int, dtype: torch.dtype = torch.float32) -> Model:
    """A small model with a tensor of each shape, and an integer buffer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    return {**tensors, "positions": torch.arange(9)}


def wide(model: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The floating-point tensors of a model as float64 arrays."""
    return {name: tensor.double().numpy() for name, tensor in model.items() if tensor.is_floating_point()}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models are equal byte for byte (0.0 and -0.0 differ)."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].reshape(-1).view(torch.uint8).equal(other[name].reshape(-1).view(torch.uint8))
        for name in one
    )


def assert_precise(merged: Mapping[str, Tensor], expected: Mapping[str, np.ndarray], parts: list[Model]) -> None:
    """Checks that float32 and float64 results agree, to `PRECISION` of the largest value that enters an element."""
    for name, array in expected.items():
        size = np.abs(array)
        for part in parts:
            size = np.maximum(size, np.abs(part[name].double().numpy()))
        wrong = np.abs(merged[name].double().numpy() - array) > PRECISION * size
        assert not wrong.any(), f"{name}: {int(wrong.sum())} of {array.size} elements differ"


class MergeMethodKit:
    """Tests that hold for every method; a subclass defines the fixture `case`."""

    @pytest.fixture
    def in_runs(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bool], None]:
        """Sets the number of elements per run, and whether thresholds are found by counting or in memory."""
        monkeypatch.setattr(run_module, "DOT_BLOCK", 8)
        monkeypatch.setattr(exact_sums, "DOT_BLOCK", 8)
        monkeypatch.setattr(exact_sums, "COLUMN_BLOCK", 16)
        monkeypatch.setattr(threshold_search, "_BINS", 1 << 8)  # several rounds of counting, each of them fast

        def cut(elements: int, by_counting: bool) -> None:
            monkeypatch.setattr(in_memory, "run", functools.partial(run_module.run, elements=elements))
            monkeypatch.setattr(thresholds, "SMALL_GROUP", 0 if by_counting else 1 << 22)

        return cut

    @pytest.fixture
    def base(self, case: MethodCase) -> Model | None:
        return random_model(0) if case.has_base else None

    @pytest.fixture
    def sources(self, case: MethodCase) -> dict[str, Model]:
        return {name: random_model(number) for number, name in enumerate(NAMES[: case.n_sources], start=1)}

    def test_the_docstring_explains_paper_edges_and_options(self, case: MethodCase) -> None:
        text = case.method.function.__doc__ or ""
        for part in ("Paper:", "https://", "Edges:"):
            assert part in text, f"the docstring lacks {part}"
        for option in case.method.options.model_fields:
            if option != "stages":  # common to all methods of task vectors, and explained once
                assert f"    {option}:" in text, f"the docstring does not explain the option {option}"

    def test_equals_its_reference_in_float64(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        weights, scale = case.weights(), 0.7 if case.has_base else 1.0
        merged = case.merge(sources, base, weights=weights, scale=scale)
        options = case.method.resolve(case.options)
        below = None if base is None else wide(base)
        expected = case.reference({name: wide(model) for name, model in sources.items()}, below, weights, options)
        if below is not None:
            deltas = {name: expected[name] - below[name] for name in expected}
            expected = {name: below[name] + scale * deltas[name] for name in expected}
        assert expected.keys() == SHAPES.keys()
        assert_precise(merged, expected, [*sources.values(), *([base] if base is not None else [])])
        if case.sparse:
            assert below is not None
            kept = [int(np.count_nonzero(expected[name] != below[name])) for name in SHAPES]
            assert 0 < sum(kept) < sum(array.size for array in below.values()), "the case drops some elements"
            for name in SHAPES:
                moved = merged[name].numpy() != np.asarray(below[name], np.float32)
                np.testing.assert_array_equal(moved, expected[name] != below[name], err_msg=name)

    def test_the_order_of_sources_changes_no_bit(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        first = case.merge(sources, base, weights=case.weights())
        for seed in range(4):
            names = list(sources)
            random.Random(seed).shuffle(names)
            shuffled = {name: dict(random.Random(seed).sample(list(sources[name].items()), 12)) for name in names}
            weights = {name: case.weights()[name] for name in reversed(names)}
            assert same_bits(case.merge(shuffled, base, weights=weights), first)

    def test_threads_and_runs_change_no_bit(
        self,
        case: MethodCase,
        sources: dict[str, Model],
        base: Model | None,
        in_runs: Callable[[int, bool], None],
    ) -> None:
        arguments: dict[str, Any] = {"weights": case.weights(), "dtype": torch.bfloat16}
        in_runs(1 << 20, False)
        whole = case.merge(sources, base, workers=1, **arguments)
        for elements, workers in ((8, 1), (8, 5), (16, 2), (64, 5), (1 << 20, 2)):
            for by_counting in (False, True) if elements in (8, 64) else (False,):
                in_runs(elements, by_counting)
                assert same_bits(case.merge(sources, base, workers=workers, **arguments), whole)

    def test_does_not_change_its_inputs_or_share_their_memory(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        def copied(model: Model) -> Model:
            return {name: tensor.clone() for name, tensor in model.items()}

        before = {name: copied(model) for name, model in sources.items()}
        base_before = None if base is None else copied(base)
        changes: list[dict[str, Any]] = [{}, {"dtype": None}, *([{"scale": 0.0}] if case.has_base else [])]
        for change in changes:
            for tensor in case.merge(sources, base, **change).values():
                tensor.fill_(7)
        if case.identity is not None:
            for tensor in case.merge({"games": sources["games"]}, base, **case.identity).values():
                tensor.fill_(7)
        assert all(same_bits(sources[name], before[name]) for name in sources)
        assert base is None or same_bits(base, base_before or {})

    def test_one_source_with_weight_one_gives_that_source(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        one = {"games": sources["games"]}
        if case.identity is None:
            with pytest.raises(MergeError, match=rf"{case.method.name}: takes .*(two|several|chain|three)"):
                case.merge(one, base)
            return
        merged = case.merge(one, base, **case.identity)
        assert_precise(merged, wide(sources["games"]), [base] if base is not None else [])

    def test_computes_in_float32_and_rounds_once(self, case: MethodCase) -> None:
        names = NAMES[: case.n_sources]
        sources = {name: random_model(seed, torch.bfloat16) for seed, name in enumerate(names, start=1)}
        base = random_model(0, torch.bfloat16) if case.has_base else None
        weights = case.weights()
        full = case.merge(sources, base, weights=weights)
        of_float32 = case.merge(
            {name: _as(model, torch.float32) for name, model in sources.items()},
            None if base is None else _as(base, torch.float32),
            weights=weights,
        )
        assert same_bits(full, of_float32), "bfloat16 is widened first, and intermediate values are not rounded"
        for dtype in (torch.bfloat16, None):
            narrow = case.merge(sources, base, weights=weights, dtype=dtype)
            assert same_bits(narrow, _as(full, torch.bfloat16)), "the result is rounded once"

    def test_scale_zero_gives_the_base(self, case: MethodCase, sources: dict[str, Model], base: Model | None) -> None:
        if not case.has_base:
            with pytest.raises(MergeError, match="no delta for scale"):
                case.merge(sources, base, scale=0.0)
            return
        assert base is not None
        base["norm.weight"][0] = -0.0
        assert same_bits(case.merge(sources, base, scale=0.0), base)

    def test_a_common_factor_of_all_weights(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        """Doubles all weights: a power of two changes only exponents."""
        weights = case.weights()
        doubled = case.merge(sources, base, weights={name: 2 * weight for name, weight in weights.items()})
        if case.scaled_weights == "change nothing":
            assert same_bits(doubled, case.merge(sources, base, weights=weights))
        elif case.has_base:
            assert same_bits(doubled, case.merge(sources, base, weights=weights, scale=2.0))
        else:
            merged = case.merge(sources, base, weights=weights)
            assert same_bits(doubled, {name: tensor * (1 + (name in SHAPES)) for name, tensor in merged.items()})

    def test_an_unknown_option_lists_the_known_ones(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        with pytest.raises(MergeError, match=f"{case.method.name}: unknown option 'desnity'") as caught:
            case.merge(sources, base, desnity=0.2)
        known = str(caught.value).partition("known: ")[2].split(", ")
        assert set(case.method.options.model_fields) <= set(known) or known == ["none"]
        assert ("preset" in known) == bool(case.method.presets)

    def test_a_base_is_required_optional_or_refused(self, case: MethodCase, sources: dict[str, Model]) -> None:
        if case.method.base == "required":
            with pytest.raises(MergeError, match=f"{case.method.name}: needs a base"):
                case.merge(sources, None)
        elif case.method.base == "none":
            with pytest.raises(MergeError, match=f"{case.method.name}: has no base"):
                case.merge(sources, random_model(0))
        else:
            assert case.merge(sources, None).keys() == case.merge(sources, random_model(0)).keys()

    def test_the_error_for_nan_names_tensor_and_source(
        self, case: MethodCase, sources: dict[str, Model], base: Model | None
    ) -> None:
        sources["games"]["layers.1.weight"][2, 3] = float("nan")
        with pytest.raises(MergeError, match=r"tensor layers\.1\.weight: source 'games' holds NaN"):
            case.merge(sources, base)


def _as(model: Model, dtype: torch.dtype) -> Model:
    """Converts the floating-point tensors of a model to another type."""
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in model.items()}
