"""Residual codes equal those of a plain loop over vectors, levels and codewords."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.semantic_ids.codewords import FARTHEST, Codewords
from mmgrid.semantic_ids.item_vectors import VectorScale, check_vectors


def _by_hand(vectors: np.ndarray, codewords: Codewords) -> list[list[int]]:
    codes = []
    for vector in vectors.astype(np.float64):
        residual, row = vector, []
        for words, used in zip(codewords.words.astype(np.float64), codewords.used.tolist(), strict=True):
            distances = [float(((residual - word) ** 2).sum()) for word in words[:used]]
            row.append(distances.index(min(distances)))
            residual = residual - words[row[-1]]
        codes.append(row)
    return codes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9), st.integers(1, 6), st.integers(0, 30))
def test_codes_equal_those_of_a_plain_loop(seed: int, levels: int, codes: int, width: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    words = rng.normal(size=(levels, codes, width)).astype(np.float32)
    codewords = Codewords(words, rng.integers(1, codes + 1, levels))
    vectors = rng.normal(size=(n, width)).astype(np.float32)
    found = codewords.encode(vectors)
    assert found.tolist() == _by_hand(vectors, codewords)
    assert found.dtype == np.int32
    assert found.shape == (n, levels)


def test_many_vectors_are_encoded_like_each_alone() -> None:
    rng = np.random.default_rng(0)
    codewords = Codewords(rng.normal(size=(2, 16, 8)).astype(np.float32), np.array([16, 16]))
    vectors = rng.normal(size=(20_000, 8)).astype(np.float32)  # more than one chunk
    found = codewords.encode(vectors)
    for row in (0, 16_383, 16_384, 19_999):
        assert found[row].tolist() == codewords.encode(vectors[row : row + 1])[0].tolist()


def test_the_first_of_equal_codewords_is_chosen() -> None:
    words = np.array([[[2.0], [1.0], [1.0]]], np.float32)
    assert Codewords(words, np.array([3])).encode(np.ones((2, 1), np.float32)).tolist() == [[1], [1]]


def test_distances_to_last_words_are_squared_and_finite() -> None:
    rng = np.random.default_rng(3)
    codewords = Codewords(rng.normal(size=(3, 5, 4)).astype(np.float32), np.array([5, 5, 4]))
    vectors = rng.normal(size=(7, 4)).astype(np.float32)
    codes = codewords.encode(vectors)
    distances = codewords.last_level_distances(vectors, codes)
    left = vectors - codewords.decode(codes[:, :2])
    expected = np.square(left[:, None] - codewords.words[2]).sum(-1)
    np.testing.assert_allclose(distances[:, :4], expected[:, :4], rtol=1e-5)
    assert (distances[:, 4] == FARTHEST).all()
    assert np.isfinite(distances).all()
    assert (distances.argmin(1) == codes[:, 2]).all()


@pytest.mark.parametrize(
    ("words", "used", "message"),
    [
        (np.zeros((2, 3), np.float32), [1, 1], "expected float32"),
        (np.zeros((2, 3, 1), np.float32), [1], "one number per level"),
        (np.zeros((2, 3, 1), np.float32), [4, 1], "expected 1 to 3 per level"),
        (np.full((1, 3, 1), np.nan, np.float32), [1], "NaN"),
    ],
)
def test_invalid_codewords_are_refused(words: np.ndarray, used: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Codewords(words, np.array(used))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e6, 1e6), st.sampled_from([1e-20, 1e-6, 1.0, 1e8, 1e25]))
def test_scaled_vectors_have_mean_zero_and_unit_length_and_scaling_is_invertible(
    seed: int, shift: float, size: float
) -> None:
    vectors = np.random.default_rng(seed).normal(shift, 1.0, (50, 3)) * size
    scale = VectorScale.of(vectors)
    scaled = scale.apply(vectors)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.square(scaled).sum(1).mean(), 1, rtol=1e-4)
    np.testing.assert_allclose(scale.undo(scaled), vectors, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros(3, np.float32), "two dimensions"),
        (np.zeros((3, 2), np.int64), "expected float32"),
        (np.zeros((3, 0), np.float32), "width 0"),
        (np.zeros((3, 5), np.float32), "width 5; the codebook was fitted on width 2"),
        (np.array([[1, 2], [np.nan, 0], [0, np.inf]], np.float32), "2 of 3 rows, first in row 1"),
    ],
)
def test_invalid_vectors_are_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_vectors(vectors, 2)
