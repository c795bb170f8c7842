"""The figures of the report, checked against scipy and by hand."""

import json

import numpy as np
import pytest
from scipy.stats import entropy

from mmgrid.semantic_ids.codes_report import codes_report
from mmgrid.semantic_ids.collisions import Collisions
from mmgrid.semantic_ids.item_codes import assign_codes
from mmgrid.semantic_ids.quantiser import fit_codebook
from mmgrid.semantic_ids.recipes import ResidualKMeansRecipe

VECTORS = np.random.default_rng(0).normal(5, 1, (50, 4)).astype(np.float32)
CODEBOOK = fit_codebook(VECTORS, ResidualKMeansRecipe(levels=3, codes=4), seed=0)


def test_use_and_entropy_match_scipy() -> None:
    codes, found = assign_codes(CODEBOOK, VECTORS, [np.arange(50)])
    for level, own in enumerate(found.levels):
        counts = np.bincount(codes.codes[:, level])
        assert own.used == np.count_nonzero(counts)
        assert own.entropy_bits == pytest.approx(entropy(counts, base=2))
        assert own.perplexity == pytest.approx(np.exp(entropy(counts)))
    assert (found.items, found.codes_per_level, found.without_code) == (50, 4, 0)


def test_uniform_use_has_maximum_entropy_and_a_single_code_none() -> None:
    codes = np.zeros((8, 3), np.int32)
    codes[:, 1] = np.arange(8) % 4
    first, second, _ = codes_report(CODEBOOK, VECTORS[:8], codes, codes).levels
    assert (first.used, first.entropy_bits, first.perplexity) == (1, 0.0, 1.0)
    assert (second.used, second.entropy_bits, second.perplexity) == (4, 2.0, 4.0)


def test_errors_are_shares_of_the_variance() -> None:
    codes = CODEBOOK.encode(VECTORS)
    found = codes_report(CODEBOOK, VECTORS, codes, codes)
    variance = VECTORS.var(axis=0).sum()
    for level, own in enumerate(found.levels):
        decoded = CODEBOOK.decode(codes[:, : level + 1])
        expected = np.square(VECTORS - decoded).sum(axis=1).mean() / variance
        assert own.error == pytest.approx(expected, rel=1e-4)
    assert 1 > found.levels[0].error > found.levels[1].error > found.levels[2].error > 0


def test_collisions_and_moves_are_counted() -> None:
    before = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1]], np.int32)
    after = before.copy()
    after[1] = [0, 0, 2]
    found = codes_report(CODEBOOK, VECTORS[:5], before, after, without_code=3)
    assert (found.before, found.after) == (Collisions(4, 2), Collisions(2, 1))
    assert (found.moved, found.items, found.without_code) == (1, 5, 3)


def test_as_json_is_plain_json() -> None:
    values = assign_codes(CODEBOOK, VECTORS, [np.arange(20)])[1].as_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["levels"][0].keys() == {"used", "entropy_bits", "perplexity", "error"}
    assert values["without_code"] == 30


def test_no_items_and_equal_items_have_a_report() -> None:
    found = assign_codes(CODEBOOK, VECTORS, [])[1]
    assert (found.items, found.levels[0].used, found.levels[0].error) == (0, 0, 0.0)
    equal = codes_report(CODEBOOK, VECTORS[[0, 0]], np.zeros((2, 3), np.int32), np.zeros((2, 3), np.int32))
    assert [level.error for level in equal.levels] == [0.0, 0.0, 0.0]
