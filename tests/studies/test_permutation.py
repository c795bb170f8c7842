"""Correlations over a few domains: their p against an enumeration of all orders."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from mmgrid.studies.statistics.permutation import DRAWS, correlation, labels_p, orders, permutation_p, rank_correlation


def test_correlations_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlation(x, 3 - 2 * x) == pytest.approx(-1)
    y = np.array([1.0, 3.0, 2.0, 5.0])
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, y) == pytest.approx(0.8)
    # Mean ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / √(4.5 · 5).
    assert rank_correlation(np.array([0.0, 7.0, 7.0, 9.0]), x) == pytest.approx(4.5 / math.sqrt(22.5))


@pytest.mark.parametrize("constant", [1.105, 0.1, 662.9])
@pytest.mark.parametrize("n", [3, 5, 6, 7])
def test_a_constant_has_no_correlation(constant: float, n: int) -> None:
    """Even if rounding makes the mean of equal numbers differ from them."""
    x = 100.0 * np.arange(n) ** 2
    for found in (correlation, rank_correlation, permutation_p):
        assert math.isnan(found(x, np.full(n, constant)))
        assert math.isnan(found(np.full(n, constant), x))


@pytest.mark.parametrize("n", [3, 4, 5])
def test_p_is_the_share_of_all_orders(n: int) -> None:
    draw = np.random.default_rng(n)
    for _ in range(5):
        x, y = draw.normal(size=n), draw.normal(size=n)
        observed = abs(np.corrcoef(x, y)[0, 1])
        drawn = [abs(np.corrcoef(x, np.array(order))[0, 1]) for order in permutations(y)]
        assert permutation_p(x, y) == pytest.approx(np.mean(np.array(drawn) >= observed - 1e-9))


def test_orders_are_all_or_a_sample_with_the_identity() -> None:
    assert len(set(orders(4, 0))) == 24
    sample = list(orders(9, 1))
    assert len(sample) == DRAWS
    assert sample[0] == tuple(range(9))
    assert all(sorted(order) == list(range(9)) for order in sample)
    assert sample == list(orders(9, 1))
    assert sample != list(orders(9, 2))
    firsts = Counter(order[0] for order in sample)
    assert min(firsts.values()) > DRAWS / 9 * 0.7


def test_p_of_a_sample_of_orders_is_never_zero() -> None:
    x = np.arange(12.0)
    assert permutation_p(x, 5 * x) == pytest.approx(1 / DRAWS)
    assert permutation_p(x, np.random.default_rng(4).normal(size=12)) > 0.05


def test_p_is_uniform_without_an_effect() -> None:
    draw = np.random.default_rng(0)
    found = [permutation_p(draw.normal(size=5), draw.normal(size=5)) for _ in range(200)]
    # 10 of 200 expected below 0.05 (p has steps of 1/120), standard deviation about 3.
    assert sum(p <= 0.05 for p in found) < 20
    assert 0.4 < np.mean(found) < 0.6


# ---- names exchanged -----------------------------------------------------------------------------------------

NAMES = ["a", "b", "c", "d", "e"]
SIZE = dict(zip(NAMES, [1.0, 2.0, 4.0, 8.0, 16.0], strict=True))
PLACES = list(permutations(NAMES, 2))


def _p(outcome: np.ndarray) -> float:
    def statistic(names: dict[str, str]) -> float:
        predicted = np.array([math.log(SIZE[names[one]] / SIZE[names[other]]) for one, other in PLACES])
        return rank_correlation(predicted, outcome)

    return labels_p(NAMES, statistic)


def test_an_effect_of_the_names_is_detected() -> None:
    planted = np.array([math.log(SIZE[one] / SIZE[other]) for one, other in PLACES])
    noise = np.random.default_rng(0).normal(0, 0.3, len(PLACES))
    assert _p(planted + noise) <= 2 / 120 + 1e-9  # the order itself, and the same upside down
    assert _p(-planted) == pytest.approx(2 / 120)


def test_pairs_that_share_a_name_are_not_treated_as_independent() -> None:
    """Outcomes belong to domains and are drawn at random: permuting single pairs would give false positives."""
    draw = np.random.default_rng(2)
    found, one_by_one = [], []
    planted = np.array([math.log(SIZE[one] / SIZE[other]) for one, other in PLACES])
    for _ in range(12):
        own = dict(zip(NAMES, draw.normal(size=5), strict=True))
        outcome = np.array([own[one] - own[other] for one, other in PLACES])
        found.append(_p(outcome))
        one_by_one.append(permutation_p(planted, outcome))
    assert sum(p < 0.05 for p in found) <= 2
    assert sum(p < 0.05 for p in one_by_one) >= 5


def test_a_statistic_of_nan_has_no_p() -> None:
    assert math.isnan(labels_p(["a", "b", "c"], lambda names: math.nan))
