"""Ridge regression and nearest rows, against other ways to compute them."""

import numpy as np
import pytest

from mmgrid.studies.statistics.nearest_rows import nearest_mean
from mmgrid.studies.statistics.ridge import PENALTIES, Ridge
from mmgrid.studies.statistics.standardised import Standard

DRAW = np.random.default_rng(0)
UNITS = np.array([300.0, 0.1, 1.0])
FEATURES = DRAW.normal(size=(12, 3)) * UNITS + 5
VALUES = FEATURES @ np.array([0.002, -3.0, 0.4]) + DRAW.normal(scale=0.2, size=12)


def _by_augmentation(features: np.ndarray, values: np.ndarray, penalty: float, at: np.ndarray) -> np.ndarray:
    """Least squares over the rows and, for each feature, a row of the root of n · penalty with the value 0."""
    n, width = features.shape
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    rows = np.column_stack([np.ones(n), (features - mean) / deviation])
    extra = np.column_stack([np.zeros(width), np.sqrt(n * penalty) * np.eye(width)])
    found = np.linalg.lstsq(np.vstack([rows, extra]), np.concatenate([values, np.zeros(width)]), rcond=None)[0]
    return found[0] + ((at - mean) / deviation) @ found[1:]


@pytest.mark.parametrize("penalty", [0.0, 0.01, 1.0, 300.0])
def test_it_is_least_squares_over_an_augmented_system(penalty: float) -> None:
    at = DRAW.normal(size=(5, 3)) * UNITS
    np.testing.assert_allclose(
        Ridge.of(FEATURES, VALUES, penalty).at(at), _by_augmentation(FEATURES, VALUES, penalty, at), rtol=1e-9
    )


def test_a_penalty_of_one_halves_the_coefficient_of_a_feature_alone() -> None:
    whole, half = (Ridge.of(FEATURES[:, :1], VALUES, penalty).coefficients[0] for penalty in (0.0, 1.0))
    assert half == pytest.approx(whole / 2)


def test_the_penalty_is_that_of_the_least_error_on_left_out_rows() -> None:
    names = [str(row) for row in range(len(VALUES))]

    def error(penalty: float) -> float:
        missed = []
        for row in range(len(VALUES)):
            rest = np.arange(len(VALUES)) != row
            missed.append(_by_augmentation(FEATURES[rest], VALUES[rest], penalty, FEATURES[row]) - VALUES[row])
        return float(np.square(missed).sum())

    assert Ridge.chosen(FEATURES, VALUES, names).penalty == min(PENALTIES, key=error) == PENALTIES[0]


def test_noise_gets_the_largest_penalty_and_with_it_the_mean() -> None:
    draw = np.random.default_rng(5)
    features, values = draw.normal(size=(10, 6)), draw.normal(size=10)
    chosen = Ridge.chosen(features, values, [str(row) for row in range(10)])
    assert chosen.penalty >= 10
    np.testing.assert_allclose(chosen.at(features), values.mean(), atol=0.2)


def test_a_group_is_left_out_as_a_whole() -> None:
    """Copies of a row give its answer away, so by rows a small penalty looks good; by groups it does not."""
    draw = np.random.default_rng(2)
    features = np.repeat(draw.normal(size=(6, 5)), 3, axis=0) + draw.normal(scale=1e-3, size=(18, 5))
    values = np.repeat(draw.normal(size=6), 3)
    by_row = Ridge.chosen(features, values, [str(row) for row in range(18)])
    by_group = Ridge.chosen(features, values, [str(row // 3) for row in range(18)])
    assert by_row.penalty < by_group.penalty


def test_one_group_has_nothing_to_choose_by() -> None:
    assert Ridge.chosen(FEATURES, VALUES, ["a"] * 12).penalty == PENALTIES[-1]


def test_a_constant_feature_counts_for_nothing() -> None:
    with_constant = np.column_stack([FEATURES, np.full(12, 0.1)])
    at = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(
        Ridge.of(with_constant, VALUES, 0.1).at(np.column_stack([at, [9.0]])), Ridge.of(FEATURES, VALUES, 0.1).at(at)
    )
    np.testing.assert_array_equal(Standard.of(with_constant).deviations[-1], 1.0)


def test_the_nearest_rows_are_those_of_the_least_standardised_distance() -> None:
    """The first feature is in the hundreds: without standardising, it alone would decide."""
    at = np.array([5.0, 5.0, 5.0])
    distances = [sum(((row[f] - at[f]) / FEATURES[:, f].std()) ** 2 for f in range(3)) for row in FEATURES]
    by_hand = sorted(range(12), key=lambda row: distances[row])[:3]
    assert nearest_mean(FEATURES, VALUES, at) == pytest.approx(np.mean([VALUES[row] for row in by_hand]))
    assert nearest_mean(FEATURES, VALUES, at, neighbours=1) == VALUES[by_hand[0]]
    assert nearest_mean(FEATURES, VALUES, at, neighbours=99) == pytest.approx(VALUES.mean())
    unscaled = np.argsort(np.square(FEATURES - at).sum(axis=1))[:3]
    assert set(unscaled) != set(by_hand)
