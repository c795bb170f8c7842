"""Correlations over a few domains, and their permutation tests."""

import math
from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np
import numpy.typing as npt

from mmgrid.seeds import generator

Floats = npt.NDArray[np.float64]

MOST_EXACT = 6  # up to 6 values all orders (720) are enumerated; for more they are sampled
DRAWS = 2000
_SEED = 0  # the same data have the same p, whichever study asks
_SLACK = 1e-12  # sums in a different order differ in their last digits


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's r; NaN if x or y is constant."""
    if (x == x[0]).all() or (y == y[0]).all():  # the mean of equal numbers may differ from them by a rounding
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's ρ, with mean ranks for equal values."""
    return correlation(_mean_ranks(x), _mean_ranks(y))


def _mean_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values get their mean rank. All NaN if one value is NaN, whose rank is unknown."""
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def permutation_p(x: Floats, y: Floats) -> float:
    """Two-sided p of `correlation`: the share of orders of y whose correlation is at least as far from zero.

    All orders of up to six values, else a sample of 2,000 (Fisher's randomisation test). NaN if x or y is constant.
    """
    return _share(correlation(x, y), (correlation(x, y[list(order)]) for order in orders(len(y), _SEED)))


def labels_p(names: list[str], statistic: Callable[[dict[str, str]], float]) -> float:
    """Two-sided p of a statistic over pairs of `names`, by permuting the names.

    Pairs that share a name are dependent, so the pairs themselves must not be permuted (Mantel, "The detection of
    disease clustering and a generalized regression approach", Cancer Research 27, 1967).

    Args:
        statistic: returns the value under a permutation, given as name → name.
    """
    observed = statistic({name: name for name in names})
    drawn = (statistic(dict(zip(names, [names[i] for i in order], strict=True))) for order in orders(len(names), _SEED))
    return _share(observed, drawn)


def orders(n: int, seed: int) -> Iterator[tuple[int, ...]]:
    """All orders of n values, or a random sample of them that includes the identity."""
    if n <= MOST_EXACT:
        yield from permutations(range(n))
        return
    draw = generator(seed, "studies", "orders")
    yield tuple(range(n))
    for _ in range(DRAWS - 1):
        yield tuple(draw.permutation(n).tolist())


def _share(observed: float, drawn: Iterator[float]) -> float:
    if math.isnan(observed):
        return math.nan
    extreme = [abs(value) >= abs(observed) - _SLACK for value in drawn if not math.isnan(value)]
    return sum(extreme) / len(extreme)
