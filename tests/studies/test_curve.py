"""The best place of a curve: planted places are found, intervals cover them, and crossfitting separates the halves."""

import numpy as np
import pytest

from mmgrid.studies.statistics.curve import STEP, best_place, crossfitted, fine_places, nearest, smoother

PLACES = np.round(np.arange(-0.5, 2.01, 0.25), 2)


@pytest.mark.parametrize("n", [3, 4, 7, 11, 26])
def test_the_smoother_keeps_quadratics_and_is_one_linear_map(n: int) -> None:
    places = np.sort(np.random.default_rng(n).uniform(-1, 2, n))
    at = np.linspace(places[0], places[-1], 40)
    weights = smoother(places, at)
    assert weights.shape == (40, n)
    for a, b, c in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, -1.2, 2.5)):
        np.testing.assert_allclose(weights @ (a + b * places + c * places**2), a + b * at + c * at**2, atol=1e-6)


def test_the_smoother_removes_noise() -> None:
    places = np.linspace(-0.5, 2, 26)
    noise = np.random.default_rng(0).normal(size=(26, 400))
    smooth = smoother(places, places[5:-5]) @ noise
    assert smooth.std() < 0.7
    zigzag = (-1.0) ** np.arange(26)
    assert np.abs(smoother(places, places[5:-5]) @ zigzag).max() < 0.3


@pytest.mark.parametrize(("places", "line"), [([0.7], 0), ([0.0, 1.0], 1)])
def test_one_or_two_places_are_smoothed(places: list[float], line: int) -> None:
    at = np.array([places[0], (places[0] + places[-1]) / 2, places[-1]])
    np.testing.assert_allclose(smoother(np.array(places), at) @ np.array([3.0, 5.0])[: len(places)],
                               [[3, 3, 3], [3, 4, 5]][line], atol=1e-9)  # fmt: skip


def test_fine_places_are_multiples_of_the_step_and_include_both_ends() -> None:
    fine = fine_places(PLACES)
    assert (fine[0], fine[-1], len(fine)) == (-0.5, 2.0, 501)
    np.testing.assert_allclose(np.diff(fine), STEP)
    assert nearest(PLACES, 1.1) == 6
    assert nearest(PLACES, 1.13) == 7


def _users(draw: np.random.Generator, truth: float, n: int) -> np.ndarray:
    """Each user has its own best place around the truth, measured with noise."""
    own = draw.normal(truth, 0.8, n)
    return 1 - (PLACES - own[:, None]) ** 2 + draw.normal(0, 1.0, (n, len(PLACES)))


def test_the_interval_covers_a_planted_best_place_about_as_often_as_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmgrid.studies.statistics.curve.STEP", 0.02)
    draw, truth, trials = np.random.default_rng(5), 0.8, 120
    found = [best_place(_users(draw, truth, 80), PLACES, seed=trial, samples=200) for trial in range(trials)]
    covered = sum(best.low <= truth <= best.high for best in found)
    # 95 % nominal: 114 of 120 expected, standard deviation about 2.4.
    assert 107 <= covered <= 119
    assert abs(np.mean([best.place for best in found]) - truth) < 0.03
    spread = np.std([best.place for best in found])
    told = np.mean([best.replicates.std() for best in found])
    assert 0.7 < told / spread < 1.4
    assert not any(best.at_edge for best in found)


def test_the_interval_has_the_quantiles_of_the_replicates_and_depends_on_the_seed() -> None:
    values = _users(np.random.default_rng(1), 0.8, 50)
    best = best_place(values, PLACES, seed=3, samples=100)
    assert best.replicates.shape == (100,)
    assert set(best.replicates) <= set(fine_places(PLACES))
    assert (best.low, best.high) == pytest.approx(np.quantile(best.replicates, [0.025, 0.975]))
    np.testing.assert_array_equal(best_place(values, PLACES, seed=3, samples=100).replicates, best.replicates)
    assert (best_place(values, PLACES, seed=4, samples=100).replicates != best.replicates).any()


def test_more_users_narrow_the_interval() -> None:
    few, many = (best_place(_users(np.random.default_rng(2), 0.8, n), PLACES, seed=0, samples=200) for n in (30, 1500))
    assert many.high - many.low < (few.high - few.low) / 3


@pytest.mark.parametrize(("truth", "edge"), [(-3.0, -0.5), (4.0, 2.0)])
def test_a_curve_that_rises_to_an_end_has_its_best_place_at_the_edge(truth: float, edge: float) -> None:
    best = best_place(_users(np.random.default_rng(0), truth, 200), PLACES, seed=0, samples=50)
    assert (best.place, best.at_edge) == (edge, True)


def test_no_users_are_refused() -> None:
    with pytest.raises(ValueError, match="no users"):
        best_place(np.empty((0, 3)), np.arange(3.0), seed=0)


# ---- chosen on one half, judged on the other ------------------------------------------------------------------


def test_each_half_is_evaluated_at_the_best_place_of_the_other_half() -> None:
    left, right = -((PLACES - 0.0) ** 2), -((PLACES - 1.5) ** 2)
    first = np.array([True, False, True, False, True])
    values = np.where(first[:, None], left, right) + np.arange(5)[:, None]
    judged = crossfitted(values, PLACES, first)
    at_left, at_right = nearest(PLACES, 0.0), nearest(PLACES, 1.5)
    np.testing.assert_array_equal(judged, np.where(first, values[:, at_right], values[:, at_left]))


def test_no_user_influences_the_place_at_which_it_is_evaluated() -> None:
    draw = np.random.default_rng(0)
    values, first = draw.normal(size=(30, len(PLACES))), np.arange(30) < 15
    marked = np.broadcast_to(np.arange(len(PLACES), dtype=float), values.shape)
    judged_at = crossfitted(values, PLACES, first)[first]
    other = values.copy()
    other[first] = 100 * marked[first]  # it would draw everybody to the last place
    np.testing.assert_array_equal(crossfitted(other, PLACES, first)[first] % 100, np.zeros(15))
    place = {int(np.flatnonzero(row == value)[0]) for row, value in zip(values[first], judged_at, strict=True)}
    assert len(place) == 1
    np.testing.assert_array_equal(crossfitted(other, PLACES, first)[first], other[first, place.pop()])


def test_pure_noise_has_a_gain_when_chosen_on_the_same_users_and_none_when_crossfitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmgrid.studies.statistics.curve.STEP", 0.05)
    draw, naive, honest = np.random.default_rng(7), [], []
    first = np.arange(40) % 2 == 0
    for trial in range(80):
        values = draw.normal(size=(40, len(PLACES)))
        chosen = nearest(PLACES, best_place(values, PLACES, seed=trial, samples=1).place)
        reference = values[:, nearest(PLACES, 1.0)].mean()
        naive.append(values[:, chosen].mean() - reference)
        honest.append(crossfitted(values, PLACES, first).mean() - reference)
    error = np.std(honest, ddof=1) / np.sqrt(len(honest))
    assert np.mean(naive) > 5 * error
    assert abs(np.mean(honest)) < 2.5 * error


def test_an_empty_half_uses_the_place_of_the_other() -> None:
    values = np.tile(-((PLACES - 0.5) ** 2), (4, 1))
    for half in (np.ones(4, bool), np.zeros(4, bool)):
        np.testing.assert_array_equal(crossfitted(values, PLACES, half), values[:, nearest(PLACES, 0.5)])
