"""The kit that every merge method passes.

Subclass `MergeMethodKit` in a test file and give it the fixture `case`, parametrised over the registry. A case
holds the method, a slow reference of it in float64, and the options under which one source with weight 1 gives
itself back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from mmgrid.merging import MergeError, Method, merge_state_dicts

# reference(tensors θᵢ or τᵢ in float64, weights, **options) → tensor in float64
Reference = Callable[..., Tensor]
SHAPES = {"matrix": (7, 33), "vector": (19,), "scalar": (), "empty": (0, 4), "deep": (2, 3, 5)}
FLOAT32 = {"rtol": 3e-6, "atol": 1e-6}


@dataclass(frozen=True)
class MethodCase:
    """A method with what it is measured against."""

    method: Method
    reference: Reference
    identity: Mapping[str, Any] = field(default_factory=dict)


def random_model(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A small model with a tensor of each shape, and a buffer of whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    return {**tensors, "positions": torch.arange(9)}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models are equal byte for byte (0.0 and -0.0 differ)."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].reshape(-1).view(torch.uint8).equal(other[name].reshape(-1).view(torch.uint8))
        for name in one
    )


class MergeMethodKit:
    """What holds for every method; a subclass gives the fixture `case`."""

    @pytest.fixture
    def base(self, case: MethodCase) -> dict[str, Tensor] | None:
        return None if case.method.base == "none" else random_model(0)

    @pytest.fixture
    def sources(self) -> dict[str, dict[str, Tensor]]:
        return {name: random_model(number) for number, name in enumerate(["books", "toys", "games"], start=1)}

    def test_says_what_it_is(self, case: MethodCase) -> None:
        text = case.method.combine.__doc__ or ""
        for part in ("Paper:", "https://", "Edges:"):
            assert part in text, "the docstring names the paper and the edge rules"
        for option in case.method.options.model_fields:
            assert f"{option}:" in text, f"the docstring explains the option {option}"

    def test_equals_its_reference_in_float64(
        self, case: MethodCase, sources: dict[str, dict[str, Tensor]], base: dict[str, Tensor] | None
    ) -> None:
        weights, scale = {"books": 0.5, "toys": 0.2, "games": 0.9}, 0.7 if case.method.returns == "delta" else 1.0
        merged = merge_state_dicts(case.method, sources, base=base, weights=weights, scale=scale)
        order = sorted(sources)
        for name in SHAPES:
            tensors = [sources[source][name].double() for source in order]
            if case.method.returns == "delta":
                assert base is not None
                tensors = [tensor - base[name].double() for tensor in tensors]
            expected = case.reference(tensors, [weights[source] for source in order])
            if base is not None and case.method.returns == "delta":
                expected = base[name].double() + scale * expected
            torch.testing.assert_close(merged[name].double(), expected, **FLOAT32)

    def test_the_order_of_sources_changes_no_bit(
        self, case: MethodCase, sources: dict[str, dict[str, Tensor]], base: dict[str, Tensor] | None
    ) -> None:
        weights = {"books": 0.3, "toys": 1 / 3, "games": 0.7}
        first = merge_state_dicts(case.method, sources, base=base, weights=weights)
        for seed in range(4):
            names = list(sources)
            random.Random(seed).shuffle(names)
            shuffled = {name: dict(reversed(sources[name].items())) for name in names}
            assert same_bits(merge_state_dicts(case.method, shuffled, base=base, weights=weights), first)

    def test_leaves_its_inputs_alone_and_shares_no_memory(
        self, case: MethodCase, sources: dict[str, dict[str, Tensor]], base: dict[str, Tensor] | None
    ) -> None:
        before = {name: {key: tensor.clone() for key, tensor in model.items()} for name, model in sources.items()}
        base_before = None if base is None else {key: tensor.clone() for key, tensor in base.items()}
        for chosen in (sources, {"books": sources["books"]}):
            for scale in (1.0, 0.0) if case.method.returns == "delta" else (1.0,):
                merged = merge_state_dicts(case.method, chosen, base=base, scale=scale, **case.identity)
                for tensor in merged.values():
                    tensor.fill_(7)
        assert all(same_bits(sources[name], before[name]) for name in sources)
        assert base is None or same_bits(base, base_before or {})

    def test_one_source_with_weight_one_gives_that_source(
        self, case: MethodCase, sources: dict[str, dict[str, Tensor]], base: dict[str, Tensor] | None
    ) -> None:
        merged = merge_state_dicts(case.method, {"toys": sources["toys"]}, base=base, **case.identity)
        for name in SHAPES:
            torch.testing.assert_close(merged[name], sources["toys"][name], **FLOAT32)

    def test_computes_in_float32_and_rounds_once(self, case: MethodCase, base: dict[str, Tensor] | None) -> None:
        sources = {name: random_model(seed, torch.bfloat16) for seed, name in enumerate("abc", start=1)}
        wide = merge_state_dicts(case.method, sources, base=base)
        narrow = merge_state_dicts(case.method, sources, base=base, dtype=torch.bfloat16)
        for name in SHAPES:
            assert wide[name].dtype == torch.float32
            assert narrow[name].equal(wide[name].to(torch.bfloat16))

    def test_elements_do_not_see_their_place(self, case: MethodCase) -> None:
        """A method that needs one element at a time gives the same bits for any cut of the tensor."""
        if case.method.needs != "element":
            pytest.skip(f"{case.method.name} needs a whole {case.method.needs}")
        tensors = [torch.randn(1001, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
        weights = [0.1, 0.7, 1 / 3]
        whole = case.method(tensors, weights)
        for size in (1, 7, 64, 500):
            parts = [case.method(list(part), weights) for part in _cut(tensors, size)]
            assert torch.cat(parts).equal(whole)

    def test_scale_zero_gives_the_base(
        self, case: MethodCase, sources: dict[str, dict[str, Tensor]], base: dict[str, Tensor] | None
    ) -> None:
        if case.method.returns != "delta":
            with pytest.raises(MergeError, match="no delta for scale"):
                merge_state_dicts(case.method, sources, base=base, scale=0.0)
            return
        assert base is not None
        base["vector"][0] = -0.0
        assert same_bits(merge_state_dicts(case.method, sources, base=base, scale=0.0), base)

    def test_an_unknown_option_lists_the_known_ones(
        self, case: MethodCase, sources: dict[str, dict[str, Tensor]], base: dict[str, Tensor] | None
    ) -> None:
        with pytest.raises(MergeError, match="unknown option 'desnity'") as caught:
            merge_state_dicts(case.method, sources, base=base, desnity=0.2)
        for option in case.method.options.model_fields:
            assert option in str(caught.value)

    def test_a_base_is_asked_for_or_refused(self, case: MethodCase, sources: dict[str, dict[str, Tensor]]) -> None:
        if case.method.base == "required":
            with pytest.raises(MergeError, match="needs a base"):
                merge_state_dicts(case.method, sources)
        if case.method.base == "none":
            with pytest.raises(MergeError, match="has no base"):
                merge_state_dicts(case.method, sources, base=random_model(0))


def _cut(tensors: Sequence[Tensor], size: int) -> list[tuple[Tensor, ...]]:
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))
