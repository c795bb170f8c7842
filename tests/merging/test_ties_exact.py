"""Thresholds over whole models against brute force: a full sort of all elements, ties broken by name and index.

Fine-tuning moves bfloat16 weights by a few units in the last place, so that a fifth of all elements can be equal to the
threshold. The engine counts instead of sorting, and must keep exactly the same elements.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kits import slow_merges
from mmgrid.merging import in_memory, merge_state_dicts
from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.engine import run as run_module
from mmgrid.merging.engine import threshold_search, thresholds
from mmgrid.merging.engine.threshold_search import CountingSearch
from mmgrid.merging.methods.stages.base import share_of

SHAPES = {
    "embed.weight": (23, 12),
    "item_tower.layers.0.weight": (13, 17),
    "item_tower.layers.1.weight": (13, 17),
    "layers.0.weight": (21, 23),
    "layers.1.bias": (41,),
    "norm": (),
    "user_tower.layers.0.weight": (3, 5),
    "user_tower.layers.1.empty": (0, 7),
}
SMALL = {"embed": (9, 16), "item_tower.0.w": (10, 7), "item_tower.1.w": (31,), "user_tower.w": (20, 9), "v": ()}
Model = dict[str, torch.Tensor]


def tuned(base: Model, seed: int, largest: int = 3) -> Model:
    """The base, each element moved by at most a few units in the last place of bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    model = {}
    for name, tensor in base.items():
        steps = torch.randint(-largest, largest + 1, tensor.shape, generator=generator, dtype=torch.int16)
        model[name] = (tensor.view(torch.int16) + steps).view(torch.bfloat16)
    return model


def started(seed: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> Model:
    """Weights between 1/4 and 1, in two binades, so that units in the last place have two sizes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: ((0.25 + 0.75 * torch.rand(shape, generator=generator)) * (-1) ** number).bfloat16()
        for number, (name, shape) in enumerate(shapes.items())
    }


def brute_force(source: Model, base: Model, scope: str, first: Fraction, share: Fraction) -> dict[str, np.ndarray]:
    """Whether each element of the task vector lies between the ranks ⌊first · n⌋ and ⌊first · n⌋ + ⌊share · n⌋."""
    tower = {name: name.split(".")[0] if "_tower" in name else "" for name in base}
    group_of = {"model": lambda name: "", "tower": tower.__getitem__, "tensor": lambda name: name}[scope]
    kept = {name: np.zeros(base[name].numel(), bool) for name in base}
    for group in {group_of(name) for name in base}:
        elements = [
            (-abs(end - start), name, index)
            for name in base
            if group_of(name) == group
            for index, (end, start) in enumerate(
                zip(*(model[name].flatten().tolist() for model in (source, base)), strict=True)
            )
        ]
        elements.sort()
        begin = math.floor(first * len(elements))
        for _, name, index in elements[begin : begin + math.floor(share * len(elements))]:
            kept[name][index] = True
    return kept


@contextmanager
def searching(*, elements: int, counting: bool, sample: int = 4, bins: int = 1 << 8, held: int = 100) -> Iterator[None]:
    """Splits work into runs of about `elements` elements, and finds thresholds by counting if `counting`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_module, exact_sums):
            patch.setattr(module, "DOT_BLOCK", 8)
        patch.setattr(threshold_search, "_BINS", bins)
        patch.setattr(thresholds, "_SAMPLE", sample)
        patch.setattr(thresholds, "_SAMPLED_FROM", 0)
        patch.setattr(threshold_search, "_HELD", held)
        patch.setattr(thresholds, "SMALL_GROUP", 10 if counting else 1 << 22)
        patch.setattr(in_memory, "run", functools.partial(run_module.run, elements=elements))
        yield


def kept_by(method: str, source: Model, base: Model, **arguments: Any) -> dict[str, np.ndarray]:
    """Whether each element is kept: it then has the source's value, otherwise the base's."""
    merged = merge_state_dicts(method, {"a": source}, base=base, **arguments)
    for name, tensor in merged.items():
        assert ((tensor == source[name].float()) | (tensor == base[name].float())).all()
    return {name: (tensor == source[name].float()).numpy().ravel() for name, tensor in merged.items()}


def assert_same_kept(ours: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], moved: Mapping) -> None:
    for name, mask in expected.items():
        np.testing.assert_array_equal(ours[name] & moved[name], mask & moved[name], err_msg=name)


def test_the_test_weights_have_many_equal_magnitudes() -> None:
    base = started(0)
    source = tuned(base, 1)
    sizes = np.concatenate([np.abs((source[n].float() - base[n].float()).numpy()).ravel() for n in base])
    threshold = np.sort(sizes)[::-1][share_of(0.3, len(sizes)) - 1]
    assert (sizes == threshold).mean() > 0.15
    assert share_of(0.3, len(sizes)) != (sizes >= threshold).sum(), "equal magnitudes lie at the threshold"


@pytest.mark.parametrize("scope", ["model", "tower", "tensor"])
@pytest.mark.parametrize("counting", [False, True], ids=["in memory", "counting"])
def test_ties_keeps_what_a_full_sort_keeps(scope: str, counting: bool) -> None:
    base = started(0)
    source = tuned(base, 1)
    moved = {name: (source[name] != base[name]).numpy().ravel() for name in base}
    for number, density in enumerate(["0", "0.001", "0.2", "0.29", "0.5", "0.57", "0.999", "1"]):
        expected = brute_force(source, base, scope, Fraction(0), Fraction(density))
        with searching(elements=[8, 40, 100, 1 << 20][number % 4], counting=counting):
            ours = kept_by("ties", source, base, density=float(density), scope=scope, workers=number % 3 + 1)
        assert_same_kept(ours, expected, moved)


@pytest.mark.parametrize("scope", ["model", "tower", "tensor"])
@pytest.mark.parametrize("counting", [False, True], ids=["in memory", "counting"])
def test_breadcrumbs_keeps_what_a_full_sort_keeps(scope: str, counting: bool) -> None:
    base = started(2)
    source = tuned(base, 3)
    moved = {name: (source[name] != base[name]).numpy().ravel() for name in base}
    for gamma, density in [("0.1", "0.29"), ("0", "0.5"), ("0.71", "0.29"), ("0.3", "0"), ("1", "0"), ("0", "1")]:
        expected = brute_force(source, base, scope, Fraction(gamma), Fraction(density))
        with searching(elements=40, counting=counting):
            ours = kept_by("breadcrumbs", source, base, density=float(density), gamma=float(gamma), scope=scope)
        assert_same_kept(ours, expected, moved)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1 << 30),
    largest=st.sampled_from([1, 2, 5, 200]),
    density=st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
    scope=st.sampled_from(["model", "tower", "tensor"]),
    elements=st.sampled_from([8, 16, 72, 1 << 20]),
    sample=st.sampled_from([1, 2, 8, 1 << 20]),
    bins=st.sampled_from([2, 1 << 4, 1 << 12]),
    held=st.sampled_from([0, 50, 1 << 20]),
    workers=st.sampled_from([1, 2, 5]),
)
def test_counting_finds_the_same_threshold_as_sorting(
    seed: int, largest: int, density: float, scope: str, elements: int, sample: int, bins: int, held: int, workers: int
) -> None:
    base = started(seed, SMALL)
    sources = {"a": tuned(base, seed + 1, largest), "b": tuned(base, seed + 2, largest), "c": base}
    expected = slow_merges.ties(
        {name: {key: tensor.double().numpy() for key, tensor in model.items()} for name, model in sources.items()},
        {key: tensor.double().numpy() for key, tensor in base.items()},
        dict.fromkeys(sources, 1.0),
        {"drop": 0.0, "density": density, "scope": scope, "elect": "plain", "normalise": False},
    )
    with searching(elements=elements, counting=True, sample=sample, bins=bins, held=held):
        options = {"density": density, "scope": scope, "elect": "plain", "normalise": False}
        merged = merge_state_dicts("ties", sources, base=base, workers=workers, **options)
    for name, tensor in merged.items():  # the sum of two such updates is exact in float32
        np.testing.assert_array_equal(tensor.numpy(), expected[name].astype(np.float32), err_msg=name)


@pytest.mark.parametrize("misleading", ["all larger", "all smaller", "one of each"])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_a_misleading_sample_changes_nothing(misleading: str, density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample consists of the beginning of every run; here its values differ from all others."""
    n, run = 4096, 8
    base = {"w": torch.zeros(n), "x": torch.zeros(n)}
    generator = np.random.default_rng(0)
    source = {}
    for name in base:
        values = generator.integers(1000, 1010, n).astype(np.float32)  # many ties
        begins = values[::run]
        begins[:] = {"all larger": 1e6, "all smaller": 1e-6, "one of each": 1e6}[misleading]
        if misleading == "one of each":
            begins[::2] = 1e-6
        source[name] = torch.from_numpy(values)
    misled = []
    narrow = CountingSearch.narrow

    def watched(looking: Any) -> None:
        misled.append(not looking.beyond < looking.rank <= looking.beyond + int(looking.counts.sum()))
        narrow(looking)

    monkeypatch.setattr(CountingSearch, "narrow", watched)
    expected = brute_force(source, base, "model", Fraction(0), Fraction(str(density)))
    with searching(elements=run, counting=True, sample=run, bins=1 << 6):
        ours = kept_by("ties", source, base, density=density, workers=2)
    assert_same_kept(ours, expected, {name: np.ones(n, bool) for name in base})
    if density in {"all larger": (0.5, 0.9), "all smaller": (0.1, 0.5), "one of each": (0.1, 0.9)}[misleading]:
        assert any(misled), "the sample was misleading"


@pytest.mark.parametrize("n", [1, 3, 7, 100, 1000])
def test_the_share_is_computed_in_decimal(n: int) -> None:
    """0.29 · 100 is 28.999999999999996 in floating point, but 29 elements must be kept."""
    sizes = torch.arange(1.0, n + 1)
    for hundredths in range(101):
        assert share_of(hundredths / 100, n) == hundredths * n // 100
        if n == 100 and hundredths in (7, 14, 28, 29, 55, 56, 57, 58):
            assert math.floor(hundredths / 100 * 100) != hundredths or hundredths in (7, 14, 28, 55, 56)
    for density, kept in ((0.29, 29 * n // 100), (0.57, 57 * n // 100), (1.0, n), (0.0, 0), (1e-9, 0)):
        merged = merge_state_dicts("ties", {"a": {"w": sizes}}, base={"w": torch.zeros(n)}, density=density)
        assert merged["w"].tolist() == [*[0.0] * (n - kept), *range(n - kept + 1, n + 1)]


def test_each_source_may_have_its_own_density() -> None:
    base = started(4)
    sources = {"a": tuned(base, 5), "b": tuned(base, 6)}
    densities = {"a": 0.29, "b": 0.8}
    for counting in (False, True):
        with searching(elements=24, counting=counting):
            together = merge_state_dicts("ties", sources, base=base, density=densities, normalise=False, elect="plain")
            apart = {
                name: merge_state_dicts("ties", {name: sources[name]}, base=base, density=densities[name])
                for name in sources
            }
        for name, start in base.items():
            one, other = ((apart[source][name] - start.float()).numpy() for source in "ab")
            sign = np.where(one + other >= 0, 1, -1)
            expected = start.float().numpy() + np.where(one * sign > 0, one, 0) + np.where(other * sign > 0, other, 0)
            np.testing.assert_array_equal(together[name].numpy(), expected, err_msg=name)


@pytest.mark.parametrize(
    "first", [{"drop": {"drop": 0.4}}, {"magnitude_drop": {"density": 0.6}}], ids=lambda s: next(iter(s))
)
def test_a_threshold_after_an_earlier_stage(first: dict[str, Any]) -> None:
    """The threshold is that of the task vector after the earlier stage, for any runs; zeros are the smallest."""
    base = started(7)
    source = tuned(base, 8, largest=40)
    delta = {name: (source[name].float() - base[name].float()).double().numpy() for name in base}
    if "drop" in first:
        left = slow_merges.dropped(delta, "a", 0.4)
    else:
        left = slow_merges.dropped_by_magnitude(delta, "a", 0.6, 0.2)
    expected = slow_merges.trimmed(left, 0.15, "model")
    for counting, elements in itertools.product((False, True), (8, 64, 1 << 20)):
        with searching(elements=elements, counting=counting):
            merged = merge_state_dicts("ties", {"a": source}, base=base, stages=[first], density=0.15, workers=2)
        for name in base:
            ours = merged[name].numpy() != base[name].float().numpy()
            np.testing.assert_array_equal(ours, expected[name] != 0, err_msg=name)
