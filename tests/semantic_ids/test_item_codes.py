"""Item codes are unique, later phases never change earlier codes, files round-trip, errors are clear."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mmgrid.semantic_ids.item_codes import ItemCodes, assign_codes
from mmgrid.semantic_ids.quantiser import Codebook, fit_codebook
from mmgrid.semantic_ids.recipes import ResidualKMeansRecipe, RqVaeRecipe

RECIPES = {
    "residual_kmeans": ResidualKMeansRecipe(levels=3, codes=8),
    "rqvae": RqVaeRecipe(levels=3, codes=8, hidden=(8,), width=4, steps=30, batch_size=32, reassign_rounds=3),
}


def _vectors(n: int = 60, seed: int = 0) -> np.ndarray:
    """Random vectors, every third of them twice."""
    vectors = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    vectors[2::3] = vectors[1::3][: len(vectors[2::3])]
    return vectors


@pytest.fixture(scope="module")
def codebooks() -> dict[str, Codebook]:
    return {name: fit_codebook(_vectors()[:40], recipe, seed=0) for name, recipe in RECIPES.items()}


@pytest.mark.parametrize("kind", RECIPES)
def test_every_item_of_a_closed_catalogue_gets_a_unique_code(codebooks, kind: str) -> None:
    vectors = _vectors(40)
    codes, report = assign_codes(codebooks[kind], vectors, [np.arange(40)])
    assert codes.has_code().all()
    assert len(np.unique(codes.codes, axis=0)) == 40
    assert report.before.items >= 26, "each third vector and its double"
    assert (report.after.items, report.after.codes) == (0, 0)
    assert codes.collisions() == report.after
    assert report.moved >= 13


@pytest.mark.parametrize("kind", RECIPES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 60))
def test_appended_items_change_no_code(codebooks, kind: str, seed: int, first: int, second: int) -> None:
    vectors = _vectors(60, seed % 100)
    order = np.random.default_rng(seed).permutation(60)
    start, end = sorted((first, second))
    groups = [order[:start], order[start:end], order[end:]]
    whole, report = assign_codes(codebooks[kind], vectors, groups)
    assert (report.items, report.without_code) == (60, 0)
    for known in range(3):
        less, so_far = assign_codes(codebooks[kind], vectors, groups[:known])
        rows = np.concatenate([np.empty(0, np.int64), *groups[:known]])
        assert np.array_equal(less.codes[rows], whole.codes[rows])
        assert np.flatnonzero(less.has_code()).tolist() == sorted(rows.tolist())
        assert so_far.without_code == 60 - len(rows)
    # Later vectors must not affect earlier codes.
    changed = vectors.copy()
    changed[groups[2]] += 1
    again, _ = assign_codes(codebooks[kind], changed, groups)
    before = order[:end]
    assert np.array_equal(again.codes[before], whole.codes[before])


def test_an_appended_duplicate_gets_the_nearest_free_code(codebooks) -> None:
    codebook = codebooks["residual_kmeans"]
    vectors = np.concatenate([_vectors(1), _vectors(1)])
    codes, report = assign_codes(codebook, vectors, [np.array([0]), np.array([1])])
    encoded = codebook.encode(vectors)
    assert np.array_equal(codes.codes[0], encoded[0]), "the old item keeps its code"
    distances = codebook.last_level_distances(vectors[1:], encoded[1:])[0]
    assert codes.codes[1].tolist() == [*encoded[1, :2], int(np.argsort(distances, kind="stable")[1])]
    assert report.before.items == 2
    assert report.moved == 1


def test_a_memory_mapped_table_is_encoded_like_one_in_memory(codebooks, tmp_path: Path) -> None:
    vectors = _vectors()
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    groups = [np.arange(60)]
    in_memory = assign_codes(codebooks["residual_kmeans"], vectors, groups)[0]
    assert np.array_equal(in_memory.codes, assign_codes(codebooks["residual_kmeans"], mapped, groups)[0].codes)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 60]], r"groups\[0\]: item row 60 is out of range; there are vectors for 60 items"),
        ([[0], [-1]], r"groups\[1\]: item row -1 is out"),
        ([[0, 1, 1]], r"groups\[0\]: 1 item rows are repeated, first 1"),
        ([[0, 1], [2], [1, 0]], r"groups\[2\]: 2 item rows are also in an earlier group, first row 0 in groups\[0\]"),
    ],
)
def test_groups_with_repeated_or_unknown_items_are_refused(codebooks, groups: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign_codes(codebooks["residual_kmeans"], _vectors(), [np.array(group) for group in groups])


def test_codes_survive_saving_and_loading(tmp_path: Path) -> None:
    codes = ItemCodes(np.array([[1, 2], [-1, -1], [0, 7]], np.int32), 8)
    codes.save(tmp_path)
    loaded = ItemCodes.load(tmp_path)
    assert np.array_equal(loaded.codes, codes.codes)
    assert loaded.codes.dtype == np.int32
    assert (loaded.codes_per_level, loaded.levels, len(loaded)) == (8, 2, 3)
    assert loaded.has_code().tolist() == [True, False, True]


def test_the_bytes_of_codes_depend_on_nothing_else(tmp_path: Path) -> None:
    codes = ItemCodes(np.array([[1, 2], [0, 7]], np.int32), 8, digest="d")
    for place in range(8):
        codes.save(tmp_path / f"{place}.safetensors")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert load_file(tmp_path / "0.safetensors")["codes"].tolist() == [[1, 2], [0, 7]]
    assert ItemCodes.load(tmp_path / "0.safetensors").digest == "d"


def test_a_missing_or_damaged_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="assign the items' codes first"):
        ItemCodes.load(tmp_path)
    (tmp_path / "codes.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"codes\.safetensors: cannot be read"):
        ItemCodes.load(tmp_path)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 2), np.int64), "expected int32"),
        (np.zeros(2, np.int32), "expected int32"),
        (np.array([[0, 1], [0, 8]], np.int32), r"1 of 2 items have codes outside 0 to 7, first item 1: \[0, 8\]"),
        (np.array([[0, -2]], np.int32), "outside 0 to 7"),
        (np.array([[0, 1], [-1, 0]], np.int32), r"1 of 2 items have -1 on some levels only, first item 1"),
    ],
)
def test_invalid_codes_are_refused(codes: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemCodes(codes, 8)
