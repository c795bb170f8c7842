"""Residual k-means: the error falls with each level, the seed determines the codes, and degenerate data works."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.semantic_ids.quantiser import Codebook, fit_codebook, load_codebook
from mmgrid.semantic_ids.recipes import ResidualKMeansRecipe


def _recipe(**values) -> ResidualKMeansRecipe:
    return ResidualKMeansRecipe(**{"levels": 3, "codes": 8, **values})


def _clusters(n: int = 300, width: int = 12, seed: int = 0) -> np.ndarray:
    """Vectors around a few centres, far from zero, like those of a language model."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(10, width))
    return (50 + centres[rng.integers(10, size=n)] + 0.3 * rng.normal(size=(n, width))).astype(np.float32)


def _error(codebook: Codebook, vectors: np.ndarray, levels: int) -> float:
    return float(np.square(vectors - codebook.decode(codebook.encode(vectors)[:, :levels])).sum())


@pytest.mark.parametrize("mini_batch_above", [10_000, 0])
def test_the_error_falls_with_each_level(mini_batch_above: int) -> None:
    vectors = _clusters()
    codebook = fit_codebook(vectors, _recipe(mini_batch_above=mini_batch_above, mini_batch_size=64), seed=0)
    errors = [float(np.square(vectors - vectors.mean(0)).sum())]
    errors += [_error(codebook, vectors, level) for level in (1, 2, 3)]
    assert all(after < 0.95 * before for before, after in pairwise(errors)), errors


def test_one_level_is_k_means() -> None:
    """Every codeword is the mean of the vectors that it encodes, and clear clusters are found."""
    rng = np.random.default_rng(1)
    centres = 100 * np.eye(4)
    vectors = np.repeat(centres, 25, axis=0) + rng.normal(size=(100, 4))
    codebook = fit_codebook(vectors.astype(np.float32), _recipe(levels=1, codes=4), seed=0)
    codes = codebook.encode(vectors)[:, 0]
    assert sorted(np.bincount(codes).tolist()) == [25, 25, 25, 25]
    for code in range(4):
        np.testing.assert_allclose(codebook.decode(np.array([[code]]))[0], vectors[codes == code].mean(0), rtol=1e-4)


@pytest.mark.parametrize("mini_batch_above", [10_000, 0])
def test_the_seed_determines_the_codes(mini_batch_above: int) -> None:
    vectors, recipe = _clusters(), _recipe(mini_batch_above=mini_batch_above, mini_batch_size=64)
    first, again, other = (fit_codebook(vectors, recipe, seed).encode(vectors) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fitting_changes_neither_the_global_generator_nor_the_vectors() -> None:
    vectors = _clusters()
    before, state = vectors.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit_codebook(vectors, _recipe(), seed=0)
    assert np.array_equal(vectors, before)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 12), st.sampled_from([1e-25, 1.0, 1e25]))
def test_few_distinct_vectors_are_encoded_exactly(seed: int, n: int, distinct: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    kinds = (rng.normal(size=(distinct, 3)) * size).astype(np.float32)
    kinds[:, 1] = 7 * size  # a constant dimension
    vectors = kinds[rng.integers(distinct, size=n)]
    codebook = fit_codebook(vectors, _recipe(codes=12), seed=0)
    codes = codebook.encode(vectors)
    assert len(np.unique(codes, axis=0)) == len(np.unique(vectors, axis=0))
    np.testing.assert_allclose(codebook.decode(codes), vectors, rtol=1e-5, atol=1e-5 * size)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0.0, 1e-7, 1e-3, 1.0]))
def test_nearly_equal_vectors_can_be_fitted(seed: int, n: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.integers(3, size=(n, 2)) + noise * rng.normal(size=(n, 2))).astype(np.float32)
    codebook = fit_codebook(vectors, _recipe(codes=4), seed=seed)
    codes = codebook.encode(vectors)
    assert codes.min() >= 0
    assert codes.max() < 4
    assert np.isfinite(codebook.decode(codes)).all()


def test_missing_and_invalid_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        fit_codebook(np.zeros((0, 3), np.float32), _recipe(), seed=0)
    vectors = _clusters()
    vectors[5, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 300 rows, first in row 5"):
        fit_codebook(vectors, _recipe(), seed=0)
    codebook = fit_codebook(_clusters(), _recipe(), seed=0)
    with pytest.raises(ValueError, match="width 3; the codebook was fitted on width 12"):
        codebook.encode(np.zeros((1, 3), np.float32))
    assert codebook.encode(np.zeros((0, 12), np.float32)).shape == (0, 3)


def test_a_saved_codebook_encodes_as_before(tmp_path: Path) -> None:
    vectors = _clusters()
    codebook = fit_codebook(vectors[:200], _recipe(), seed=0)
    codebook.save(tmp_path / "codebook")
    loaded = load_codebook(tmp_path / "codebook")
    codes = loaded.encode(vectors)
    assert np.array_equal(codes, codebook.encode(vectors))
    assert np.array_equal(loaded.decode(codes), codebook.decode(codes))
    assert np.array_equal(loaded.last_level_distances(vectors, codes), codebook.last_level_distances(vectors, codes))
    assert (loaded.levels, loaded.codes, loaded.width) == (3, 8, 12)


def test_a_damaged_codebook_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"codebook\.json: no such file"):
        load_codebook(tmp_path)
    fit_codebook(_clusters(), _recipe(), seed=0).save(tmp_path)
    head, arrays = tmp_path / "codebook.json", tmp_path / "codebook.safetensors"
    good, whole = json.loads(head.read_text()), arrays.read_bytes()
    for values, message in [
        ({**good, "kind": "pickled"}, "kind 'pickled'; known are"),
        ({**good, "format": 2}, "not a codebook of format 1"),
        ({**good, "recipe": {**good["recipe"], "codes": 9}}, "the recipe says"),
        ({**good, "recipe": {"codez": 9}}, "recipe cannot be read"),
    ]:
        head.write_text(json.dumps(values))
        with pytest.raises(ValueError, match=message):
            load_codebook(tmp_path)
    head.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_codebook(tmp_path)
    head.write_text(json.dumps(good))
    arrays.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged"):
        load_codebook(tmp_path)
    arrays.unlink()
    with pytest.raises(FileNotFoundError, match="incomplete"):
        load_codebook(tmp_path)
