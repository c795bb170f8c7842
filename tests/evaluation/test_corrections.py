"""Holm's correction, by hand and by its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgrid.evaluation import holm

P = st.one_of(st.floats(0, 1), st.just(float("nan")))


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # sorted: 4·0.005, 3·0.01, 2·0.03, then 0.04 < 0.06
        ([0.5, 0.5], [1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([np.nan, 0.02, np.nan, 0.03], [np.nan, 0.04, np.nan, 0.04]),  # two comparisons were made
        ([np.nan], [np.nan]),
    ],
)
def test_corrected_values_by_hand(given_: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(holm(given_), expected, rtol=1e-12)


@given(st.lists(P, max_size=12))
def test_properties_of_the_correction(p_values: list[float]) -> None:
    p, adjusted = np.array(p_values), holm(p_values)
    assert (np.isnan(adjusted) == np.isnan(p)).all()
    known, found = p[~np.isnan(p)], adjusted[~np.isnan(p)]
    assert (found >= known).all()
    assert (found <= np.minimum(known * len(known), 1) + 1e-12).all()  # never stricter than Bonferroni
    order = np.argsort(known, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    np.testing.assert_array_equal(holm(known[order]), found[order])  # whatever the order


def test_false_rejections_stay_rare() -> None:
    draw = np.random.default_rng(3)
    wrong = sum((holm(draw.random(20)) < 0.05).any() for _ in range(1000))
    # At most 50 of 1,000 are expected, standard deviation about 7; without the correction 640.
    assert 20 < wrong < 75
