"""Confidence intervals of means over users, and paired comparisons of two models on the same users.

The test users are treated as a sample. Resampling them with replacement (the percentile bootstrap; Efron and
Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13) gives the interval of a mean. Two models
are compared by their differences per user, which removes how hard a user is for both: with the same bootstrap, and by
flipping the signs of the differences (Fisher's randomisation test; for retrieval Smucker,
Allan and Carterette, CIKM 2007).

A resample depends only on the seed and the number of users, so intervals of several metrics, and of several models
over the same users, are based on the same resamples.

A merge with random masks is one of many that could have been drawn. If several were, its value is the mean over the
draws, and each resample of the users also resamples the draws, so the interval holds the variance of both.

Shapes: `B` users, `M` metrics (a vector [B] counts as one metric), `D` draws (without this axis, one), `S` resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.seeds import generator

_CHUNK_ELEMENTS = 1 << 20
_CACHED_ELEMENTS = 1 << 14  # drawn and counted at once: few users take many resamples, and stay in the cache
_SLACK = 1e-12  # sums in another order differ in the last digits, so "at least as far" needs a small tolerance


@dataclass(frozen=True)
class Interval:
    """Means over users and their intervals; each float64[M], in the unit of the input."""

    value: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    n_users: int


@dataclass(frozen=True)
class Difference:
    """Mean of (a − b) over users; every array is float64[M].

    `p_bootstrap` is two-sided: twice the smaller share of resamples on either side of zero.
    `p_permutation` is the share of sign flips with a mean at least as far from zero; with several draws, the largest of
    them. Both count the observed data as one resample, so neither is ever 0.
    """

    difference: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    p_bootstrap: npt.NDArray[np.float64]
    p_permutation: npt.NDArray[np.float64]
    n_users: int


def bootstrap_interval(
    values: npt.NDArray[np.floating], *, seed: int, samples: int = 1000, level: float = 0.95
) -> Interval:
    """Mean over users with a percentile bootstrap interval.

    Args:
        values: float[B], float[B, M] or float[B, M, D], one row per user.
        seed: determines the resamples, together with B and D.
        samples: number of resamples S.
        level: the interval's nominal coverage, in (0, 1).

    Returns:
        An `Interval`. Without users the numbers are NaN and `n_users` is 0. With one user, or equal values, the interval
        has width 0, which does not mean certainty.

    Raises:
        ValueError: values are not finite, or settings are out of range.
    """
    table = _as_table("values", values)
    if table.shape[0] == 0:
        empty = np.full(table.shape[1], np.nan)
        return Interval(empty, empty, empty, 0)
    means = resampled_means(table, seed=seed, samples=samples)
    low, high = _percentiles(means, level)
    return Interval(mean_over_draws(table), low, high, table.shape[0])


def paired_difference(
    a: npt.NDArray[np.floating],
    b: npt.NDArray[np.floating],
    *,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
) -> Difference:
    """Mean of a − b over the same users in the same order, with interval and two p-values.

    Args:
        a, b: float[B], float[B, M] or float[B, M, D] of equal shape; row i of both is the same user. One of them may
            have a single draw, which is compared with each of the other's.
        seed, samples, level: as for `bootstrap_interval`.

    Raises:
        ValueError: shapes differ, values are not finite, or settings are out of range.
    """
    first, second = _as_table("a", a), _as_table("b", b)
    draws = {first.shape[2], second.shape[2]} - {1}
    if first.shape[:2] != second.shape[:2] or len(draws) > 1:
        raise ValueError(f"a {np.shape(a)} and b {np.shape(b)}: a paired comparison needs the same users and draws")
    change = first - second
    n_users, n_metrics, _ = change.shape
    if n_users == 0:
        empty = np.full(n_metrics, np.nan)
        return Difference(empty, empty, empty, empty, empty, 0)
    observed = mean_over_draws(change)
    means = resampled_means(change, seed=seed, samples=samples)
    low, high = _percentiles(means, level)
    slack = _SLACK * (1.0 + np.abs(change).max(axis=(0, 2)))
    at_most, at_least = (means <= slack).sum(axis=0), (means >= -slack).sum(axis=0)
    p_bootstrap = np.minimum(1.0, 2.0 * (np.minimum(at_most, at_least) + 1) / (samples + 1))
    by_draw = [_sign_flip_p(change[:, :, draw], seed, samples) for draw in range(change.shape[2])]
    return Difference(observed, low, high, p_bootstrap, np.max(by_draw, axis=0), n_users)


def _sign_flip_p(change: npt.NDArray[np.float64], seed: int, samples: int) -> npt.NDArray[np.float64]:
    """float64[M]: the p of flipped signs for the differences [B, M] of one draw."""
    n_users, slack = len(change), _SLACK * (1.0 + np.abs(change).max(axis=0))
    flipped = np.concatenate([_weighted_sums(signs, change) for signs in _signs(n_users, seed, samples)])
    extreme = (np.abs(flipped / n_users) >= np.abs(change.mean(axis=0)) - slack).sum(axis=0)
    return np.minimum((extreme + 1) / (samples + 1), _sign_flip_bound(change))


def _sign_flip_bound(change: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float[M]: upper bound of the exact sign-flip p by Hoeffding's inequality, 2 exp(−(Σd)² / (2 Σd²)).

    Drawn signs cannot give a p below 1 / (samples + 1), which is too coarse when many comparisons are corrected.
    """
    squares = np.square(change).sum(axis=0)
    exponent = np.divide(np.square(change.sum(axis=0)), 2 * squares, out=np.zeros_like(squares), where=squares > 0)
    return np.minimum(1.0, 2.0 * np.exp(-exponent))


def resampled_means(
    values: npt.NDArray[np.floating], *, seed: int, samples: int = 1000, draws_seed: int | None = None
) -> npt.NDArray[np.float64]:
    """float64[S, M]: the means over S resamples of the users (and draws), for statistics other than intervals.

    Row s is the same resample for every call with the same number of users and the same seed.

    Args:
        values: float[B], float[B, M] or float[B, M, D].
        draws_seed: determines the resamples of the draws; default: `seed`. Models that share their masks, such as one
            merge evaluated on the users of two domains, need the same.
    """
    table = _as_table("values", values)
    n_users, n_metrics, n_draws = table.shape
    if samples < 1:
        raise ValueError(f"samples {samples}: must be 1 or more")
    if n_users == 0:
        return np.full((samples, n_metrics), np.nan)
    flat = table.reshape(n_users, -1)
    means = np.concatenate([_weighted_sums(counts, flat) for counts in _counts(n_users, seed, samples)]) / n_users
    if n_draws == 1:
        return means
    weights = _draw_weights(n_draws, seed if draws_seed is None else draws_seed, samples)
    return np.einsum("smd,sd->sm", means.reshape(samples, n_metrics, n_draws), weights)


def mean_over_draws(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """float64[M]: the mean over users and draws of float[B], float[B, M] or float[B, M, D]."""
    table = _as_table("values", values)
    by_draw = [table[:, :, draw].mean(axis=0) for draw in range(table.shape[2])]
    return np.mean(by_draw, axis=0)


def _draw_weights(n_draws: int, seed: int, samples: int) -> npt.NDArray[np.float64]:
    """float64[S, D]: the weight of each draw in each resample; rows sum to 1.

    D values resampled with replacement have a variance that is too small by (D − 1) / D, which matters for so few, so
    the deviations from equal weights are widened by the root of D / (D − 1) (Davison and Hinkley, *Bootstrap Methods
    and their Application*, 1997, section 2.5).
    """
    draw = generator(seed, "evaluation", "draws")
    chosen = draw.integers(n_draws, size=(samples, n_draws))
    counts = np.stack([(chosen == one).sum(axis=1) for one in range(n_draws)], axis=1)
    return 1 / n_draws + np.sqrt(n_draws / (n_draws - 1)) * (counts - 1) / n_draws


def _weighted_sums(weights: npt.NDArray[np.float64], table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[chunk, M] = weights [chunk, B] · table [B, M].

    Not a matrix product, since BLAS sums in an order that depends on the number of threads, and results must not.
    """
    return np.einsum("sb,mb->sm", weights, np.ascontiguousarray(table.T))


def _counts(n_users: int, seed: int, samples: int) -> Iterator[npt.NDArray[np.float64]]:
    """Number of times each user is drawn, in chunks of resamples: float64[chunk, B]; rows sum to B.

    Counting B drawn positions is a multinomial draw, and faster than numpy's own.
    """
    draw = generator(seed, "evaluation", "bootstrap")
    step = max(1, _CACHED_ELEMENTS // n_users)
    for size in _chunks(n_users, samples):
        counts = np.empty((size, n_users))
        for first in range(0, size, step):
            rows = counts[first : first + step]
            drawn = draw.integers(n_users, size=rows.shape)
            drawn += np.arange(0, rows.size, n_users)[:, None]  # each resample counts in a row of its own
            rows[:] = np.bincount(drawn.ravel(), minlength=rows.size).reshape(rows.shape)
        yield counts


def _signs(n_users: int, seed: int, samples: int) -> Iterator[npt.NDArray[np.float64]]:
    """Random signs, in chunks of resamples: float64[chunk, B]."""
    draw = generator(seed, "evaluation", "signs")
    for size in _chunks(n_users, samples):
        yield 1.0 - 2.0 * draw.integers(2, size=(size, n_users), dtype=np.int8).astype(np.float64)


def _chunks(n_users: int, samples: int) -> Iterator[int]:
    step = max(1, _CHUNK_ELEMENTS // n_users)
    for start in range(0, samples, step):
        yield min(step, samples - start)


def _percentiles(
    means: npt.NDArray[np.float64], level: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level}: must lie between 0 and 1, for example 0.95")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return low, high


def _as_table(name: str, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """float64[B, M, D]."""
    table = np.asarray(values, np.float64)
    if not 1 <= table.ndim <= 3:
        raise ValueError(f"{name}: expected [users], [users, metrics] or [users, metrics, draws], got {table.shape}")
    table = table.reshape(*table.shape, *[1] * (3 - table.ndim))
    if not np.isfinite(table).all():
        raise ValueError(f"{name}: contains NaN or infinities; every user needs a finite number (0 for a miss)")
    return table
