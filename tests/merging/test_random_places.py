"""Random numbers by place: they depend on seed, source, tensor, stage and element, and on nothing else."""

import functools
import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mmgrid.merging import in_memory, merge_state_dicts
from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.engine import run as run_module
from mmgrid.merging.methods.stages import Drop, MagnitudeDrop, Place, random
from mmgrid.merging.methods.stages.random import happens, words

SHAPES = {"embed": (31, 18), "layers.0.w": (40, 27), "layers.1.b": (101,), "norm": (), "none": (0, 3)}


def place(**changes: Any) -> Place:
    return Place(
        **{
            "source": "books",
            "tensor": "w",
            "start": 0,
            "shape": (1 << 20,),
            "depth": 0.0,
            "seed": 0,
            "stage": 0,
            **changes,
        }
    )


@contextmanager
def in_runs_of(elements: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_module, exact_sums):
            patch.setattr(module, "DOT_BLOCK", 4)
        patch.setattr(in_memory, "run", functools.partial(run_module.run, elements=elements))
        yield


def masks(method: str, source: str = "books", *, names: Any = None, seed: int = 0, **arguments: Any) -> dict[str, Any]:
    """Whether a method keeps each element of a task vector of ones."""
    ones = {name: torch.ones(SHAPES[name]) for name in names or SHAPES}
    base = {name: torch.zeros_like(tensor) for name, tensor in ones.items()}
    merged = merge_state_dicts(method, {source: ones}, base=base, seed=seed, **arguments)
    return {name: tensor.numpy().ravel() != 0 for name, tensor in merged.items()}


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("dare", {"drop": 0.4}),
    ("della", {"density": 0.5, "epsilon": 0.6}),
    ("mask", {"drop": 0.7}),
    ("ties", {"drop": 0.4, "density": 1.0}),
]


@pytest.mark.parametrize(("method", "options"), METHODS, ids=[name for name, _ in METHODS])
def test_masks_depend_only_on_the_place(method: str, options: dict[str, Any]) -> None:
    expected = masks(method, workers=1, **options)
    assert 0 < sum(mask.sum() for mask in expected.values()) < sum(mask.size for mask in expected.values())
    for workers, elements in itertools.product((1, 2, 5), (4, 28, 256, 1 << 20)):
        with in_runs_of(elements):
            again = masks(method, workers=workers, **options)
        assert all((again[name] == expected[name]).all() for name in SHAPES)
    alone = {name: masks(method, names=[name], **options)[name] for name in reversed(SHAPES)}
    assert all((alone[name] == expected[name]).all() for name in SHAPES), "independent of other tensors and their order"


@pytest.mark.parametrize(("method", "options"), METHODS, ids=[name for name, _ in METHODS])
def test_masks_differ_by_seed_source_and_tensor(method: str, options: dict[str, Any]) -> None:
    first = masks(method, **options)["layers.0.w"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "other", SHAPES["layers.0.w"])
        others = [
            masks(method, seed=1, **options)["layers.0.w"],
            masks(method, "toys", **options)["layers.0.w"],
            masks(method, **options)["other"],
        ]
    share = first.mean()
    for one, other in itertools.combinations([first, *others], 2):
        together = (one & other).mean()  # if independent, the product of the shares
        assert abs(together - share**2) < 5 * np.sqrt(0.25 / first.size)


ELSEWHERE = """
import hashlib, sys
from pathlib import Path
from mmgrid.merging import merge
assert "torch" not in sys.modules
folder, names = Path(sys.argv[1]), {"books", "toys", "games"}
digest = hashlib.sha256()
for method, options in (("dare", {}), ("della", {}), ("ties", {"preset": "subspace"}), ("mask", {})):
    sources = [{"name": name, "path": folder / name, "weight": len(name) / 7} for name in names]
    recipe = {"method": method, "base": folder / "base", "sources": sources, "options": options}
    out = folder / sys.argv[2] / method
    merge(recipe, out)
    digest.update((out / "model.safetensors").read_bytes())
print(digest.hexdigest())
"""


def test_the_hash_seed_of_the_process_changes_nothing(tmp_path: Path) -> None:
    for number, name in enumerate(("base", "books", "games", "toys")):
        (tmp_path / name).mkdir()
        draw = np.random.default_rng(number).standard_normal
        tensors = {tensor: draw(shape).astype(np.float32) for tensor, shape in SHAPES.items()}
        save_file(tensors, tmp_path / name / "model.safetensors")

    def digest(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", ELSEWHERE, str(tmp_path), hash_seed]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert digest("1") == digest("31415")


def _philox(key: int, counter: int) -> list[int]:
    """Four 64-bit numbers of Philox 4×64 with ten rounds, from the paper (Salmon et al. 2011, section 3.3)."""
    low, mask = [key & (2**64 - 1), key >> 64], 2**64 - 1
    c = [(counter >> 64 * part) & mask for part in range(4)]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ low[0], second & mask, (first >> 64) ^ c[3] ^ low[1], first & mask]
        low = [(low[0] + 0x9E3779B97F4A7C15) & mask, (low[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_the_numbers_never_change() -> None:
    """A recipe must give the same bytes in years, so the numbers are recorded here without numpy's generator."""
    at = place(source="books", tensor="model.layers.0.mlp.weight", seed=7, stage=1)
    text = "\0".join(["7", "books", "model.layers.0.mlp.weight", "1", "words"])
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
    expected = [number for counter in range(1, 4) for number in _philox(key, counter)]
    halves = [half for number in expected for half in (number & 0xFFFFFFFF, number >> 32)]
    assert words(at, len(halves)).tolist() == halves


# ---- one draw


@given(st.integers(0, 200), st.integers(0, 100), st.integers(0, 100))
def test_runs_are_slices_of_one_stream(start: int, n: int, length: int) -> None:
    whole = words(place(), 400)
    assert (words(place(start=start), n) == whole[start : start + n]).all()
    events = happens(place(), 400, 0.3)
    assert (happens(place(start=start), n, 0.3) == events[start : start + n]).all()
    assert len(words(place(start=start), length)) == length


N = 1 << 20
P = [2**-16, 2**-18, 3e-6, 0.01, 0.1, 0.25, 0.5, 0.5 + 2**-17, 1 / 3, 0.9, 0.99, 1 - 2**-16, 1 - 2**-18]


@pytest.mark.parametrize("probability", P)
def test_events_happen_with_their_probability(probability: float) -> None:
    happened = int(happens(place(), N, probability).sum())
    deviation = (N * probability * (1 - probability)) ** 0.5
    assert abs(happened - N * probability) < 5 * deviation + 1


def test_impossible_and_certain_events() -> None:
    assert not happens(place(), 100_000, 0.0).any()
    assert not happens(place(), 100_000, 1e-30).any()
    assert happens(place(), 100_000, 1.0).all()
    assert happens(place(), 100_000, 1 - 1e-16).all()


@pytest.mark.parametrize("probability", [0.1, 0.5, 1 / 3, 0.75 + 2**-20, 2**-16 * 1.5, 2**-17, 1 - 2**-18, 1.0])
def test_comparing_16_bits_first_equals_comparing_48(probability: float) -> None:
    """An event happens if the number from all 48 bits is below the probability."""
    at = place(start=5)
    halves = random._numbers(at, at.start, N, "<u2", "halves").astype(np.uint64)
    rest = np.zeros(N, np.uint64)
    first = np.uint64(min(int(probability * 2**16), 2**16 - 1))
    for index in np.flatnonzero(halves == first).tolist():  # the other bits matter only here
        rest[index] = random._numbers(at, at.start + index, 1, "<u4", "rest")[0]
    expected = (halves << np.uint64(32)) + rest < round(probability * 2**48)
    assert (happens(at, N, probability) == expected).all()
    if probability == 2**-17:
        assert 0 < expected.sum() < (halves == first).sum(), "the other 32 bits decide"


def test_rare_patterns_of_the_first_bits_are_not_rounded_away() -> None:
    """With p = 2⁻¹⁷, the first sixteen bits can only equal those of p, and the other bits decide."""
    happened = sum(int(happens(place(seed=seed), N, 2**-17).sum()) for seed in range(8))
    expected = 8 * N * 2**-17
    assert abs(happened - expected) < 5 * expected**0.5


def test_numbers_are_uniform_and_neighbours_independent() -> None:
    drawn = words(place(), N) / 2**32
    assert abs(drawn.mean() - 0.5) < 5 / (12 * N) ** 0.5
    counts = np.bincount((drawn * 256).astype(int), minlength=256)
    chi_squared = float(((counts - N / 256) ** 2 / (N / 256)).sum())
    assert abs(chi_squared - 255) < 5 * (2 * 255) ** 0.5
    for lag in (1, 2, 8, 16):
        correlation = np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]
        assert abs(correlation) < 5 / N**0.5


# ---- stages


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9, 0.99])
def test_dare_drops_at_its_rate_and_keeps_the_mean(drop: float) -> None:
    values = Drop(drop=drop).apply(np.ones(N, np.float32), place(), ())
    deviation = (drop * (1 - drop) / N) ** 0.5
    assert abs((values == 0).mean() - drop) < 5 * deviation
    assert set(np.unique(values).tolist()) == {0.0, float(np.float32(1) / np.float32(1 - drop))}, "1 / (1 − p), exactly"
    assert abs(values.mean(dtype=np.float64) - 1) < 5 * deviation / (1 - drop)
    plain = Drop(drop=drop, rescale=False).apply(np.ones(N, np.float32), place(), ())
    assert ((plain == 1) == (values != 0)).all()


def test_two_stages_draw_different_numbers() -> None:
    kept = masks("dare", drop=0.5, stages=[{"drop": {"drop": 0.5}}])["layers.0.w"]
    assert abs(kept.mean() - 0.25) < 5 * (0.25 * 0.75 / kept.size) ** 0.5


@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.8), (0.7, 0.2), (0.1, 0.0), (0.95, 0.05)])
def test_della_keeps_large_elements_more_often(density: float, epsilon: float) -> None:
    """By rank of magnitude within the row, from density − ε / 2 to density + ε / 2; the mean stays."""
    rows, row = 20_000, 8
    generator = np.random.default_rng(0)
    values = generator.standard_normal((rows, row)).astype(np.float32)
    ranks = np.abs(values).argsort(axis=1).argsort(axis=1)
    stage = MagnitudeDrop(density=density, epsilon=epsilon)
    result = stage.apply(values.copy().ravel(), place(shape=(rows, row)), ()).reshape(rows, row)
    for rank in range(row):
        chance = density - epsilon / 2 + epsilon * rank / (row - 1)
        of_rank = ranks == rank
        assert abs((result[of_rank] != 0).mean() - chance) < 5 * (chance * (1 - chance) / rows) ** 0.5
        kept = result[of_rank][result[of_rank] != 0] / values[of_rank][result[of_rank] != 0]
        np.testing.assert_allclose(kept, 1 / chance, rtol=1e-6)
    assert abs((result != 0).mean() - density) < 5 * (density * (1 - density) / values.size) ** 0.5
    plain = MagnitudeDrop(density=density, epsilon=epsilon, rescale=False)
    unscaled = plain.apply(values.copy().ravel(), place(shape=(rows, row)), ()).reshape(rows, row)
    np.testing.assert_array_equal(unscaled, np.where(result != 0, values, 0))


def test_of_equal_magnitudes_della_prefers_the_later() -> None:
    values = np.ones((50_000, 2), np.float32)
    stage = MagnitudeDrop(density=0.5, epsilon=0.8, rescale=False)
    kept = stage.apply(values.ravel(), place(shape=values.shape), ()).reshape(values.shape).mean(axis=0)
    assert kept.tolist() == pytest.approx([0.1, 0.9], abs=0.01)
