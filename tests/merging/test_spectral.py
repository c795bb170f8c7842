"""The masked and the spectral methods: against their references, against fusion-bench, and in edge cases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kits import oracles
from kits.merge_references import REFERENCES
from mmgrid.merging import METHODS, MergeError, merge, merge_state_dicts
from mmgrid.merging.methods.linear_algebra import directions, isometry
from mmgrid.testing.merge_method import (
    NAMES,
    SHAPES,
    MergeMethodKit,
    MethodCase,
    assert_precise,
    random_model,
    same_bits,
    wide,
)

METHODS_AND_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *(("consensus", options) for options in ({}, {"k": 3, "inner": "ties"}, {"task": 2, "threshold": 0.6})),
    ("emr", {}),
    *(("pcb", options) for options in ({}, {"ratio": 0.5, "clip": 0.1})),
    *(("tsv_m", options) for options in ({}, {"rank": 1.0}, {"rank": 0.4})),
    ("iso_c", {}),
    *(("iso_cts", options) for options in ({}, {"common": 0.5}, {"common": 0.0})),
    *(("cart", options) for options in ({}, {"rank": 0.5, "strength": 0.3}, {"rank": 0.0})),
    *(("knots", options) for options in ({}, {"elect": "plain", "normalise": False}, {"inner": "linear"})),
]
IDENTITY: dict[str, dict[str, Any]] = {
    "consensus": {"k": 1, "task": None},
    "tsv_m": {"rank": 1.0},
    "knots": {"density": 1.0},
}


def _case(name: str, options: Mapping[str, Any]) -> MethodCase:
    scales = name in ("emr", "tsv_m", "iso_c", "iso_cts", "pcb") or options.get("normalise") is False
    return MethodCase(
        METHODS[name],
        REFERENCES[name],
        options=options,
        identity=IDENTITY.get(name, {}),
        scaled_weights="scale it" if scales else "change nothing",
        sparse=name in ("consensus", "pcb"),
    )


CASES = [_case(name, options) for name, options in METHODS_AND_OPTIONS]


class TestAgainstTheKit(MergeMethodKit):
    @pytest.fixture(params=CASES, ids=lambda case: case.label)
    def case(self, request: pytest.FixtureRequest) -> MethodCase:
        return request.param

    def test_one_source_with_weight_one_gives_that_source(self, case, sources, base) -> None:
        if not case.method.name.startswith("iso_"):
            super().test_one_source_with_weight_one_gives_that_source(case, sources, base)
            return
        moved = case.merge({"games": sources["games"]}, base)
        for name, shape in SHAPES.items():
            delta = (sources["games"][name] - base[name]).double()
            if len(shape) < 2:
                torch.testing.assert_close(moved[name], sources["games"][name])
            elif delta.numel():
                sizes = torch.linalg.svdvals((moved[name] - base[name]).double().flatten(1))
                torch.testing.assert_close(sizes, torch.linalg.svdvals(delta.flatten(1)).mean().expand_as(sizes))

    def test_a_common_factor_of_all_weights(self, case, sources, base) -> None:
        if case.method.name == "consensus":
            pytest.skip("a source's own change is compared with the weighted sum: another factor, other masks")
        super().test_a_common_factor_of_all_weights(case, sources, base)


# ---- folders


@pytest.mark.parametrize(("name", "options"), METHODS_AND_OPTIONS, ids=lambda part: str(part))
def test_folders_give_the_bits_of_state_dicts(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    models = {source: random_model(number, torch.bfloat16) for number, source in enumerate(("base", *NAMES[:3]))}
    for source, model in models.items():
        (tmp_path / source).mkdir()
        save_file(model, tmp_path / source / "model.safetensors")
    base = models.pop("base")
    recipe: dict[str, Any] = {"method": name, "options": options}
    if METHODS[name].base == "required":
        recipe |= {"base": str(tmp_path / "base"), "scale": 0.7}
    weights = {"books": 0.5, "games": 0.25, "toys": 0.9}
    expected = merge_state_dicts(
        name,
        models,
        base=base if "base" in recipe else None,
        weights=weights,
        scale=recipe.get("scale", 1.0),
        dtype=None,
        **options,
    )
    for workers, order in ((1, NAMES[:3]), (2, NAMES[2::-1]), (5, NAMES[:3])):
        sources = [{"name": source, "path": str(tmp_path / source), "weight": weights[source]} for source in order]
        out = tmp_path / f"out{workers}"
        merge({**recipe, "sources": sources}, out, workers=workers)
        assert same_bits(dict(load_file(out / "model.safetensors")), expected)


# ---- fusion-bench


@pytest.fixture(scope="module")
def fusion_bench() -> Any:
    iso_utils = oracles.fusion_bench("method.isotropic_merging.iso_utils")
    knots_utils = oracles.fusion_bench("method.knots.knots_utils")
    utils = oracles.fusion_bench("method.tall_mask.utils")
    tsvm_utils = oracles.fusion_bench("method.task_singular_vector.utils.TSVM_utils")

    class Found:
        iso_c, iso_cts = staticmethod(iso_utils.iso_c), staticmethod(iso_utils.iso_cts)
        tsv_m = staticmethod(tsvm_utils.compute_and_sum_svd_mem_reduction)
        masks = staticmethod(utils.generate_task_masks)
        aligned = staticmethod(knots_utils.subspace_alignment)

    return Found


def _task_vectors(n: int) -> list[dict[str, Tensor]]:
    """Task vectors like trained ones: matrices with decaying, partly shared spectra, vectors and a scalar."""
    shapes = {"square": (64, 64), "wide": (48, 96), "tall": (90, 30), "vector": (40,), "scalar": ()}
    drawn = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=drawn, dtype=torch.float64)
        if len(shape) == 2:
            left, _, right = torch.linalg.svd(noise, full_matrices=False)
            noise = left * torch.logspace(0, -2.5, min(shape), dtype=torch.float64) @ right
        return 0.01 * noise

    shared = {name: draw(shape) for name, shape in shapes.items()}
    return [{name: (0.5 * shared[name] + draw(shape)).float() for name, shape in shapes.items()} for _ in range(n)]


def _delta(name: str, vectors: list[dict[str, Tensor]], **options: Any) -> dict[str, Tensor]:
    base = {name: torch.zeros_like(tensor) for name, tensor in vectors[0].items()}
    return merge_state_dicts(name, {str(n): vector for n, vector in enumerate(vectors)}, base=base, **options)


def _assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, tensor in theirs.items():
        off = (ours[name].double() - tensor).abs().max() / tensor.abs().max()
        assert off < 1e-6, f"{name}: {off:.2g}"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_spectral_methods_equal_fusion_bench(fusion_bench: Any, n: int) -> None:
    vectors = _task_vectors(n)
    exact = [{name: tensor.double() for name, tensor in vector.items()} for vector in vectors]
    _assert_alike(_delta("iso_c", vectors), fusion_bench.iso_c(exact, accelerator="cpu"))
    _assert_alike(_delta("tsv_m", vectors), fusion_bench.tsv_m(exact, accelerator="cpu"))
    for common in (0.8, 0.5, 0.25):
        theirs = fusion_bench.iso_cts(exact, common_space_fraction=common, accelerator="cpu")
        _assert_alike(_delta("iso_cts", vectors, common=common), theirs)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
def test_masks_equal_fusion_bench(fusion_bench: Any, threshold: float) -> None:
    vectors = torch.randn(4, 10_000, generator=torch.Generator().manual_seed(0))
    total = vectors.sum(0)
    masks = fusion_bench.masks(vectors, vectors, torch.zeros(10_000), total, tall_mask_lambda=threshold)
    flat = [{"w": vector} for vector in vectors]
    for k in range(1, 5):
        ours = _delta("consensus", flat, threshold=threshold, k=k)["w"]
        assert (ours != 0).equal(masks.sum(0) >= k)
        assert ours[ours != 0].equal(_delta("task_arithmetic", flat)["w"][ours != 0])
    for task in range(4):
        ours = _delta("consensus", flat, threshold=threshold, task=task + 1)["w"]
        assert (ours != 0).equal(masks[task])


def test_alignment_equals_fusion_bench(fusion_bench: Any) -> None:
    vectors = _task_vectors(3)
    for name in ("square", "wide", "tall"):
        axes, sizes, rights = fusion_bench.aligned([vector[name].double() for vector in vectors], eps=1e-9)
        along = [{"w": (torch.diag(sizes) @ right).float()} for right in rights]
        theirs = axes @ _delta("ties", along, density=0.2, scope="tensor")["w"].double()
        ours = _delta("knots", [{"w": vector[name]} for vector in vectors])["w"]
        assert (ours.double() - theirs).abs().max() < 1e-6 * theirs.abs().max()


# ---- single methods


def test_masks_are_set_where_both_sides_are_equal() -> None:
    """With two equal task vectors, each is exactly as far from the sum as from the base."""
    same = [{"w": torch.tensor([3.0, 0.0])}] * 2
    assert _delta("consensus", same, threshold=1.0)["w"].tolist() == [6, 0]
    assert _delta("consensus", same, threshold=1.01)["w"].tolist() == [0, 0]


def test_elements_that_several_sources_need_are_kept() -> None:
    one, other = {"w": torch.tensor([1.0, 1.0, 1.0])}, {"w": torch.tensor([1.0, 0.01, -0.9])}
    assert _delta("consensus", [one, other])["w"].tolist() == pytest.approx([2, 0, 0.1])
    assert _delta("consensus", [one, other], threshold=1.0)["w"].tolist() == [2, 0, 0]
    assert _delta("consensus", [one, other], threshold=1.0, k=1)["w"].tolist() == pytest.approx([2, 1.01, 0.1])
    assert _delta("consensus", [one, other], k=0)["w"].equal(_delta("task_arithmetic", [one, other])["w"])
    for options, message in (
        ({"k": 3}, "k is 3, but"),
        ({"task": 3}, "task is 3, and the sources are numbered from 1 to 2"),
    ):
        with pytest.raises(MergeError, match=message):
            _delta("consensus", [one, other], **options)


def test_elements_on_which_sources_disagree_have_no_share() -> None:
    one, other = {"w": torch.tensor([4.0, 1.0, 3.0, 0.1])}, {"w": torch.tensor([4.0, 1.0, -3.0, 0.1])}
    merged = _delta("pcb", [one, other], ratio=0.75, clip=0.0)["w"]
    assert merged[0] == 4
    assert merged[2] == 0, "they cancel out"
    assert merged[1] == pytest.approx(1)


def test_short_tensors_average_the_sources_that_agree() -> None:
    up, down, zero = ({"w": torch.tensor(value)} for value in (2.0, -1.0, 0.0))
    assert _delta("pcb", [up, up, down])["w"] == 2
    assert _delta("pcb", [up, zero])["w"] == 2
    assert _delta("pcb", [zero, zero])["w"] == 0


SPECTRAL = ["tsv_m", "iso_c", "iso_cts", "knots"]


@pytest.mark.parametrize("name", SPECTRAL)
def test_sources_with_weight_zero_or_no_change_contribute_nothing(name: str) -> None:
    """Their singular vectors are arbitrary, and must not enter the result."""
    one, other, idle = _task_vectors(3)
    idle = {key: torch.zeros_like(tensor) for key, tensor in idle.items()}
    options = {"tsv_m": {"rank": 0.25}, "iso_cts": {"common": 1.0}}.get(name, {})
    expected = _delta(name, [one, other], **options)
    still = _delta(name, [one, other, idle], **options)
    silent = _delta(name, [one, other, one], weights={"2": 0.0}, **options) if name != "knots" else still
    for key, tensor in expected.items():
        factor = 1.5 if tensor.ndim < 2 and name != "knots" else 1.0  # the mean of three
        for found in (still, silent):
            assert (factor * found[key] - tensor).abs().max() < 1e-6 * tensor.abs().max() + 1e-30


@pytest.mark.parametrize("name", SPECTRAL)
def test_unchanged_sources_give_the_base(name: str) -> None:
    nothing = {"w": torch.zeros(4, 6), "v": torch.zeros(3), "s": torch.zeros(())}
    assert all(not tensor.any() for tensor in _delta(name, [nothing, nothing]).values())


@pytest.mark.parametrize("name", ["iso_c", "iso_cts"])
def test_a_sum_of_low_rank_gains_no_directions(name: str) -> None:
    """The other singular values are zero within float32 precision, and do not enter the mean."""
    drawn = torch.Generator().manual_seed(1)
    left, right = torch.randn(40, 4, generator=drawn), torch.randn(4, 60, generator=drawn)
    vectors = [{"w": left * torch.rand(4, generator=drawn) @ right} for _ in range(2)]
    merged = _delta(name, vectors)["w"].double()
    sizes = torch.linalg.svdvals(merged)
    before = torch.linalg.svdvals(sum(vector["w"].double() for vector in vectors))
    torch.testing.assert_close(sizes[:4], before[:4].mean().expand(4), rtol=1e-5, atol=0)
    assert sizes[4] < 1e-5 * sizes[0]
    assert (torch.linalg.svdvals(torch.cat([merged, left.double()], 1))[4:] < 1e-4 * sizes[0]).all()


def test_tsv_makes_the_directions_of_sources_orthogonal() -> None:
    """With all directions of two sources of rank 2, the result has their four singular values."""
    drawn = torch.Generator().manual_seed(2)
    vectors = [{"w": torch.randn(20, 2, generator=drawn) @ torch.randn(2, 30, generator=drawn)} for _ in range(2)]
    sizes = torch.cat([torch.linalg.svdvals(vector["w"].double())[:2] for vector in vectors]).sort(descending=True)[0]
    merged = _delta("tsv_m", vectors, rank=0.1)["w"].double()
    torch.testing.assert_close(torch.linalg.svdvals(merged)[:4], sizes, rtol=1e-5, atol=0)


def test_each_source_keeps_a_direction_if_there_are_fewer_rows_than_sources() -> None:
    vectors = [{"w": torch.eye(3)[row : row + 1] * (row + 1)} for row in range(3)]
    torch.testing.assert_close(_delta("tsv_m", vectors)["w"], _delta("tsv_m", vectors, rank=1.0)["w"])
    assert _delta("tsv_m", vectors)["w"].norm() > 0


def test_cart_at_full_rank_and_at_rank_zero_is_the_average() -> None:
    sources = {name: random_model(seed) for seed, name in enumerate("abc")}
    weights = {"a": 0.2, "b": 0.5, "c": 1.0}
    average = wide(merge_state_dicts("linear", sources, weights=weights))
    for options in ({"rank": 1.0, "strength": 3.0}, {"rank": 0.0}, {"rank": 0.5, "strength": 0.0}):
        assert_precise(merge_state_dicts("cart", sources, weights=weights, **options), average, list(sources.values()))
    with pytest.raises(MergeError, match="cart: the weights add up to zero"):
        merge_state_dicts("cart", sources, weights={"a": 1.0, "b": 1.0, "c": -2.0})


def test_knots_without_election_is_task_arithmetic() -> None:
    vectors = _task_vectors(3)
    aligned = _delta("knots", vectors, inner="linear", density=1.0, normalise=False)
    for name, tensor in _delta("task_arithmetic", vectors).items():
        torch.testing.assert_close(aligned[name], tensor, rtol=0, atol=1e-6 * float(tensor.abs().max()))


def test_knots_trims_exactly_and_breaks_ties_by_index() -> None:
    vector = {"w": torch.tensor([1.0, 2.0, -2.0, 2.0, 0.5])}
    assert not _delta("knots", [vector, vector], density=0.0)["w"].any()
    assert _delta("knots", [vector, vector], density=0.4)["w"].tolist() == [0, 2, -2, 0, 0]


@pytest.mark.parametrize(("m", "n"), [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1), (0, 3), (3, 0)])
def test_directions_and_isometries(m: int, n: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(m, n))
    found = directions(matrix)
    k = min(m, n)
    assert (found.left.shape, found.sizes.shape, found.right.shape) == ((m, k), (k,), (k, n))
    np.testing.assert_allclose(found.matrix(), matrix, atol=1e-13)
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(k), atol=1e-13)
    np.testing.assert_allclose(found.right @ found.right.T, np.eye(k), atol=1e-13)
    assert (np.diff(found.sizes) <= 0).all()
    factor = isometry(matrix)
    np.testing.assert_allclose(factor.T @ matrix, (factor.T @ matrix).T, atol=1e-13)
    np.testing.assert_allclose(factor @ factor.T @ factor, factor, atol=1e-13)


def test_a_failed_decomposition_is_a_merge_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.linalg.LinAlgError("it did not converge")

    monkeypatch.setattr(torch.linalg, "svd", fail)
    with pytest.raises(
        MergeError, match="the singular value decomposition of a 2 × 3 matrix failed: it did not converge"
    ):
        directions(np.ones((2, 3)))


@pytest.mark.parametrize("workers", [1, 3])
def test_torchs_number_of_threads_changes_no_bit_and_is_restored(workers: int) -> None:
    drawn = torch.Generator().manual_seed(4)
    vectors = [{str(n): torch.randn(160, 200, generator=drawn) for n in range(6)} for _ in range(2)]
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(_delta("iso_cts", vectors, workers=workers))
            assert torch.get_num_threads() == threads
            assert _delta("task_arithmetic", vectors)
        assert same_bits(*results)
    finally:
        torch.set_num_threads(before)
