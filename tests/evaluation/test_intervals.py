import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.evaluation import bootstrap_interval, paired_difference, resampled_means
from mmgrid.evaluation.intervals import _sign_flip_bound


def test_coverage_matches_the_nominal_level():
    draw = np.random.default_rng(11)
    truth, trials = 0.3, 300
    covered = sum(
        bool(interval.low[0] <= truth <= interval.high[0])
        for trial in range(trials)
        for interval in [bootstrap_interval(draw.random(150) < truth, seed=trial, samples=300)]
    )
    # 95 % nominal: 285 of 300 expected, standard deviation about 4.
    assert 270 <= covered <= 297


def test_intervals_of_lower_level_are_nested_and_contain_the_mean():
    values = np.random.default_rng(0).exponential(size=(200, 3))
    wide = bootstrap_interval(values, seed=1)
    narrow = bootstrap_interval(values, seed=1, level=0.5)
    assert (wide.low < narrow.low).all()
    assert (narrow.high < wide.high).all()
    assert (wide.low < wide.value).all()
    assert (wide.value < wide.high).all()
    np.testing.assert_allclose(wide.value, values.mean(axis=0))


def test_the_width_matches_the_normal_approximation():
    values = np.random.default_rng(2).normal(size=400)
    interval = bootstrap_interval(values, seed=0, samples=4000)
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert abs(interval.high[0] - interval.low[0] - expected) < 0.08 * expected


def test_resamples_are_shared_between_metrics_and_depend_on_the_seed():
    values = np.random.default_rng(0).random((50, 2))
    together = resampled_means(values, seed=3)
    alone = resampled_means(values[:, 1], seed=3)
    np.testing.assert_allclose(together[:, 1], alone[:, 0], rtol=1e-12)
    assert np.array_equal(together, resampled_means(values, seed=3))
    assert not np.array_equal(together, resampled_means(values, seed=4))


def test_every_resample_has_the_original_number_of_users():
    assert np.allclose(resampled_means(np.ones(37), seed=0, samples=50), 1.0)


def test_results_do_not_depend_on_chunks(monkeypatch):
    values = np.random.default_rng(0).random(40)
    whole = resampled_means(values, seed=0, samples=33)
    monkeypatch.setattr("mmgrid.evaluation.intervals._CHUNK_ELEMENTS", 100)
    assert np.array_equal(resampled_means(values, seed=0, samples=33), whole)


def test_no_users_give_nan_without_a_warning():
    interval = bootstrap_interval(np.empty((0, 2)), seed=0)
    assert interval.n_users == 0
    assert np.isnan([interval.value, interval.low, interval.high]).all()
    difference = paired_difference(np.empty((0, 2)), np.empty((0, 2)), seed=0)
    assert difference.n_users == 0
    assert np.isnan(difference.p_permutation).all()


def test_a_clear_difference_is_significant_with_the_right_sign():
    draw = np.random.default_rng(4)
    base = draw.random(300)
    better = base + 0.05 + 0.05 * draw.normal(size=300)
    result = paired_difference(better, base, seed=0)
    assert 0 < result.low[0] < result.difference[0] < result.high[0]
    assert result.p_bootstrap[0] < 0.01
    assert result.p_permutation[0] < 0.01
    swapped = paired_difference(base, better, seed=0)
    np.testing.assert_allclose([swapped.low[0], swapped.high[0]], [-result.high[0], -result.low[0]])


def test_p_values_are_roughly_uniform_under_the_null():
    draw = np.random.default_rng(9)
    found = np.array(
        [
            (result.p_bootstrap[0], result.p_permutation[0])
            for trial in range(200)
            for result in [paired_difference(draw.normal(size=60), draw.normal(size=60), seed=trial, samples=200)]
        ]
    )
    shares = (found < 0.1).mean(axis=0)  # 0.1 expected, standard deviation 0.021
    assert (shares > 0.03).all()
    assert (shares < 0.19).all()


def test_a_paired_interval_is_narrower_than_two_separate_ones():
    draw = np.random.default_rng(6)
    base = draw.random(200)
    other = base + 0.01 * draw.normal(size=200)
    paired = paired_difference(other, base, seed=0)
    alone = bootstrap_interval(base, seed=0)
    assert paired.high[0] - paired.low[0] < 0.2 * (alone.high[0] - alone.low[0])


def test_equal_models_do_not_differ():
    values = np.random.default_rng(0).random(30)
    result = paired_difference(values, values, seed=0)
    assert (result.difference[0], result.low[0], result.high[0]) == (0.0, 0.0, 0.0)
    assert (result.p_bootstrap[0], result.p_permutation[0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (np.array([1.0, np.nan]), {}, "NaN"),
        (np.zeros((2, 2, 2, 2)), {}, "expected"),
        (np.ones(3), {"samples": 0}, "samples"),
        (np.ones(3), {"level": 1.0}, "level"),
    ],
)
def test_invalid_input_is_refused(values, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **({"seed": 0} | settings))


def test_a_paired_comparison_needs_the_same_users():
    with pytest.raises(ValueError, match="same users"):
        paired_difference(np.ones(3), np.ones(4), seed=0)


def test_a_clear_difference_survives_correction_for_many_comparisons():
    change = np.random.default_rng(0).normal(0.5, 1.0, 4000)
    found = paired_difference(change, np.zeros(4000), seed=0)
    assert 0 < found.p_permutation[0] < 1e-50, "a thousand draws alone would say 1/1001"


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
def test_the_bound_is_never_below_the_exact_p(change):
    change = np.array(change, float)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(change))))
    exact = np.mean(np.abs(signs @ change) >= abs(change.sum()) - 1e-9)
    assert _sign_flip_bound(change[:, None])[0] >= exact - 1e-12


def test_a_resample_of_one_draw_is_one_of_its_users():
    values = np.random.default_rng(0).random((50, 3))
    assert np.array_equal(resampled_means(values[:, :, None], seed=1), resampled_means(values, seed=1))


def test_the_interval_holds_the_variance_of_users_and_draws():
    """The variance of resampled means is σ²/B of the users plus s²/D of the draws, with s² unbiased."""
    random = np.random.default_rng(5)
    users, draws = random.normal(size=(400, 1)), 0.2 * random.normal(size=4)
    values = (users + draws)[:, None, :]
    found = resampled_means(values, seed=0, samples=4000)[:, 0].var()
    expected = users.var() / 400 + draws.var(ddof=1) / 4
    assert abs(found / expected - 1) < 0.08
    assert bootstrap_interval(values, seed=0).value[0] == pytest.approx(values.mean())


def test_draws_that_agree_change_nothing():
    values = np.random.default_rng(1).random((80, 2))
    same = np.repeat(values[:, :, None], 3, axis=2)
    np.testing.assert_allclose(resampled_means(same, seed=2), resampled_means(values, seed=2))
    one, several = paired_difference(values, values[::-1], seed=0), paired_difference(same, values[::-1], seed=0)
    np.testing.assert_allclose(several.p_permutation, one.p_permutation)


def test_a_difference_is_only_as_sure_as_its_least_sure_draw():
    base = np.zeros(200)
    sure, unsure = np.full(200, 0.5), np.tile([0.5, -0.5], 100)
    both = paired_difference(np.stack([sure, unsure], axis=-1)[:, None], base, seed=0)
    assert both.difference[0] == pytest.approx(0.25)
    assert both.p_permutation[0] == paired_difference(unsure, base, seed=0).p_permutation[0]


def test_models_are_compared_by_equally_many_draws():
    with pytest.raises(ValueError, match="same users and draws"):
        paired_difference(np.zeros((5, 1, 2)), np.zeros((5, 1, 3)), seed=0)
