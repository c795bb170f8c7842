"""Confidence intervals of means over users, and paired comparisons of two models on the same users.

The test users are treated as a sample. Resampling them with replacement (the percentile bootstrap; Efron and
Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13) gives the interval of a mean. Two models
are compared by their differences per user, which removes how hard a user is for both: with the same bootstrap, and by
flipping the signs of the differences (Fisher's randomisation test; for retrieval Smucker,
Allan and Carterette, CIKM 2007).

A resample depends only on the seed and the number of users, so intervals of several metrics, and of several models
over the same users, are based on the same resamples.

Shapes: `B` users, `M` metrics (a vector [B] counts as one metric), `S` resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.seeds import generator

_CHUNK_ELEMENTS = 1 << 20


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
    `p_permutation` is the share of sign flips with a mean at least as far from zero. Both count the observed data as
    one resample, so neither is ever 0.
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
        values: float[B] or float[B, M], one row per user.
        seed: determines the resamples, together with B.
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
    return Interval(table.mean(axis=0), low, high, table.shape[0])


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
        a, b: float[B] or float[B, M] of equal shape; row i of both is the same user.
        seed, samples, level: as for `bootstrap_interval`.

    Raises:
        ValueError: shapes differ, values are not finite, or settings are out of range.
    """
    first, second = _as_table("a", a), _as_table("b", b)
    if first.shape != second.shape:
        raise ValueError(f"a {first.shape} and b {second.shape}: a paired comparison needs the same users")
    change = first - second
    n_users, n_metrics = change.shape
    if n_users == 0:
        empty = np.full(n_metrics, np.nan)
        return Difference(empty, empty, empty, empty, empty, 0)
    observed = change.mean(axis=0)
    means = resampled_means(change, seed=seed, samples=samples)
    low, high = _percentiles(means, level)
    # Sums in another order differ in the last digits, so "at least as far" needs a small tolerance.
    slack = 1e-12 * (1.0 + np.abs(change).max(axis=0))
    at_most, at_least = (means <= slack).sum(axis=0), (means >= -slack).sum(axis=0)
    p_bootstrap = np.minimum(1.0, 2.0 * (np.minimum(at_most, at_least) + 1) / (samples + 1))
    flipped = np.concatenate([_weighted_sums(signs, change) for signs in _signs(n_users, seed, samples)])
    extreme = (np.abs(flipped / n_users) >= np.abs(observed) - slack).sum(axis=0)
    p_permutation = np.minimum((extreme + 1) / (samples + 1), _sign_flip_bound(change))
    return Difference(observed, low, high, p_bootstrap, p_permutation, n_users)


def _sign_flip_bound(change: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float[M]: upper bound of the exact sign-flip p by Hoeffding's inequality, 2 exp(−(Σd)² / (2 Σd²)).

    Drawn signs cannot give a p below 1 / (samples + 1), which is too coarse when many comparisons are corrected.
    """
    squares = np.square(change).sum(axis=0)
    exponent = np.divide(np.square(change.sum(axis=0)), 2 * squares, out=np.zeros_like(squares), where=squares > 0)
    return np.minimum(1.0, 2.0 * np.exp(-exponent))


def resampled_means(values: npt.NDArray[np.floating], *, seed: int, samples: int = 1000) -> npt.NDArray[np.float64]:
    """float64[S, M]: the means over S resamples of the users, for statistics other than intervals.

    Row s is the same resample for every call with the same number of users and the same seed.
    """
    table = _as_table("values", values)
    n_users = table.shape[0]
    if samples < 1:
        raise ValueError(f"samples {samples}: must be 1 or more")
    if n_users == 0:
        return np.full((samples, table.shape[1]), np.nan)
    sums = np.concatenate([_weighted_sums(counts, table) for counts in _counts(n_users, seed, samples)])
    return sums / n_users


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
    for size in _chunks(n_users, samples):
        counts = np.empty((size, n_users))
        for row in counts:
            row[:] = np.bincount(draw.integers(n_users, size=n_users), minlength=n_users)
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
    table = np.asarray(values, np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise ValueError(f"{name}: expected [users] or [users, metrics], got shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(f"{name}: contains NaN or infinities; every user needs a finite number (0 for a miss)")
    return table
