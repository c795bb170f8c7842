"""Slow reference implementations of the masked and the spectral merge methods, in float64, from their formulas.

A model is a dict of arrays. Each function takes the sources by name, the base, the weights by name and the method's
resolved options, and returns the merged model at λ = 1. They share no arithmetic with the engine: singular directions
come from the eigenvectors of M Mᵀ, polar factors from (AᵀA)^(−1/2), and ranks from sorting.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray
Model = Mapping[str, Array]
Options = Mapping[str, Any]
Reference = Callable[[Mapping[str, Model], Model | None, Mapping[str, float], Options], dict[str, Array]]
_ZERO = 1e-10  # eigenvalues of M Mᵀ below this share of the largest are rounding errors


def _of_tensors(merge: Callable[[list[Array], list[float], Options], Array]) -> Reference:
    """Makes a reference from a function of one tensor's τᵢ (θᵢ without a base), in the order of names."""

    def reference(
        sources: Mapping[str, Model], base: Model | None, weights: Mapping[str, float], options: Options
    ) -> dict[str, Array]:
        merged, names = {}, sorted(sources)
        for tensor, first in sources[names[0]].items():
            below = np.zeros(first.shape) if base is None else base[tensor]
            changes = [sources[name][tensor] - below for name in names]
            delta = merge(changes, [weights[name] for name in names], options) if first.size else first - below
            merged[tensor] = below + delta
        return merged

    return reference


# ---- parts


def floor_share(share: float, n: int) -> int:
    """⌊share · n⌋, with `share` as a decimal number."""
    return math.floor(Fraction(str(share)) * n)


def rows_and_columns(change: Array) -> Array:
    return change.reshape(change.shape[0], -1)


def left_directions(matrix: Array, k: int | None = None) -> Array:
    """Left singular vectors [m, k] of the k largest nonzero singular values."""
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    rank = int(np.sum(values > _ZERO * max(values.max(initial=0.0), 1e-300)))
    chosen = np.argsort(-values)[: rank if k is None else min(k, rank)]
    return vectors[:, chosen]


def polar(matrix: Array) -> Array:
    """The polar factor A (AᵀA)^(−1/2), restricted to the row space of A."""
    if not matrix.size:
        return matrix
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    there = values > _ZERO * values.max()
    return matrix @ (vectors[:, there] / np.sqrt(values[there])) @ vectors[:, there].T


def mean(changes: Sequence[Array], weights: Sequence[float]) -> Array:
    return np.asarray(sum(weight * change for weight, change in zip(weights, changes, strict=True)) / len(changes))


def three_parts(matrix: Array, k: int) -> tuple[Array, Array, Array]:
    """The k largest singular directions: left [m, k], sizes [k], right [k, n]."""
    left = left_directions(matrix, k)
    scaled = left.T @ matrix
    sizes = np.sqrt((scaled**2).sum(axis=1))
    return left, sizes, scaled / sizes[:, None]


def side_by_side(parts: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    lefts, sizes, rights = zip(*parts, strict=True)
    return polar(np.hstack(lefts)), np.concatenate(sizes), polar(np.vstack(rights))


def largest_only(values: Array, density: float) -> Array:
    """Keeps the ⌊density · n⌋ largest magnitudes, the first of equal ones; zero elsewhere."""
    order = sorted(range(values.size), key=lambda place: (-abs(values.ravel()[place]), place))
    kept = np.zeros(values.size)
    chosen = order[: floor_share(density, values.size)]
    kept[chosen] = values.ravel()[chosen]
    return kept.reshape(values.shape)


def inner_merge(changes: Sequence[Array], weights: Sequence[float], options: Options) -> Array:
    """The weighted sum, or TIES's election and disjoint mean; positive weights only."""
    stacked, shares = np.stack(changes), np.reshape(weights, (-1, *[1] * changes[0].ndim))
    if options["inner"] == "linear":
        return (shares * stacked).sum(axis=0) / (sum(weights) if options["normalise"] else 1.0)
    votes = (stacked * shares if options["elect"] == "weighted" else stacked).sum(axis=0)
    agrees = stacked * np.where(votes >= 0, 1.0, -1.0) > 0
    total, divisor = (agrees * shares * stacked).sum(axis=0), (agrees * shares).sum(axis=0)
    return total / np.where(divisor == 0, 1.0, divisor) if options["normalise"] else total


# ---- methods


def _consensus(changes: list[Array], weights: list[float], options: Options) -> Array:
    total = inner_merge(changes, weights, options)
    masks = [np.abs(change) >= options["threshold"] * np.abs(total - change) for change in changes]
    if options["task"] is not None:
        return np.where(masks[options["task"] - 1], total, 0.0)
    return np.where(np.sum(masks, axis=0) >= options["k"], total, 0.0)


def _pcb(changes: list[Array], weights: list[float], options: Options) -> Array:
    shape, n, size = changes[0].shape, len(changes), changes[0].size
    if n == 1:
        return weights[0] * changes[0]
    flat = np.stack([change.ravel() for change in changes])
    total, divisor = np.zeros(size), np.zeros(size)
    cut = floor_share(options["clip"], size)
    for change, weight in zip(flat, weights, strict=True):
        ordered = np.sort(np.abs(change))
        low, high = ordered[cut], ordered[size - 1 - cut]
        clipped = np.minimum(np.maximum(np.abs(change), low), high)
        intra = np.exp(n * ((clipped - low) / (high - low)) ** 2) if high > low else np.ones(size)
        balance = intra * np.tanh(change * flat.sum(axis=0))
        kept = math.ceil(Fraction(str(options["ratio"])) * size)
        threshold, best = np.sort(balance)[::-1][kept - 1], balance.max()
        if best > threshold:
            share = np.where(balance > threshold, (balance - threshold) / (best - threshold), 0.0)
        else:
            share = np.where((balance == best) & (balance > 0), 1.0, 0.0)
        total += weight * share * np.sign(change) * clipped
        divisor += share
    return np.where(divisor > 0, total / np.where(divisor > 0, divisor, 1.0), 0.0).reshape(shape)


def _emr(changes: list[Array], weights: list[float], options: Options) -> Array:
    scaled = np.array([weight * change for change, weight in zip(changes, weights, strict=True)])
    sign = np.where(scaled.sum(axis=0) < 0, -1.0, 1.0)
    return sign * np.where(sign * scaled > 0, np.abs(scaled), 0.0).max(axis=0)


def _tsv_m(changes: list[Array], weights: list[float], options: Options) -> Array:
    if changes[0].ndim < 2:
        return mean(changes, weights)
    matrices = [weight * rows_and_columns(change) for change, weight in zip(changes, weights, strict=True)]
    smaller = min(matrices[0].shape)
    k = smaller // len(changes) if options["rank"] is None else floor_share(options["rank"], smaller)
    left, sizes, right = side_by_side([three_parts(matrix, max(k, 1)) for matrix in matrices])
    return (left @ np.diag(sizes) @ right).reshape(changes[0].shape)


def _iso_c(changes: list[Array], weights: list[float], options: Options) -> Array:
    if changes[0].ndim < 2:
        return mean(changes, weights)
    total = len(changes) * rows_and_columns(mean(changes, weights))
    axes = left_directions(total)
    if not axes.size:
        return np.zeros(changes[0].shape)
    sizes = np.sqrt(((axes.T @ total) ** 2).sum(axis=1))
    smaller = total if total.shape[0] >= total.shape[1] else total.T
    factor = polar(smaller) if smaller is total else polar(smaller).T
    return (sizes.sum() / len(sizes) * factor).reshape(changes[0].shape)


def _iso_cts(changes: list[Array], weights: list[float], options: Options) -> Array:
    if changes[0].ndim < 2:
        return mean(changes, weights)
    matrices = [weight * rows_and_columns(change) for change, weight in zip(changes, weights, strict=True)]
    n, r = len(matrices), min(matrices[0].shape)
    each = min(round((r - floor_share(options["common"], r)) / n), r // n)
    shared = three_parts(np.sum(matrices, axis=0), r - n * each)
    project = np.eye(len(matrices[0])) - shared[0] @ shared[0].T
    own = [three_parts(project @ matrix, each) for matrix in matrices]
    left, sizes, right = side_by_side([*own, shared])
    return (sizes.mean() * left @ right).reshape(changes[0].shape)


def _cart(changes: list[Array], weights: list[float], options: Options) -> Array:
    shares = np.array(weights) / sum(weights)
    average = sum(share * change for share, change in zip(shares, changes, strict=True))
    if changes[0].ndim < 2 or not options["rank"]:
        return np.asarray(average)
    centre = rows_and_columns(np.asarray(average))
    k, result = max(floor_share(options["rank"], min(centre.shape)), 1), centre.copy()
    for share, change in zip(shares, changes, strict=True):
        away = rows_and_columns(change) - centre
        axes = left_directions(away, k)
        result += options["strength"] * len(changes) * share * axes @ (axes.T @ away)
    return result.reshape(changes[0].shape)


def _knots(changes: list[Array], weights: list[float], options: Options) -> Array:
    if changes[0].ndim < 2:
        return inner_merge([largest_only(change, options["density"]) for change in changes], weights, options)
    matrices = [rows_and_columns(change) for change in changes]
    axes = left_directions(np.hstack(matrices))
    along = [largest_only(axes.T @ matrix, options["density"]) for matrix in matrices]  # Uᵀ τᵢ = Σ Vᵢᵀ
    return (axes @ inner_merge(along, weights, options)).reshape(changes[0].shape)


REFERENCES: dict[str, Reference] = {
    "consensus": _of_tensors(_consensus),
    "emr": _of_tensors(_emr),
    "pcb": _of_tensors(_pcb),
    "tsv_m": _of_tensors(_tsv_m),
    "iso_c": _of_tensors(_iso_c),
    "iso_cts": _of_tensors(_iso_cts),
    "cart": _of_tensors(_cart),
    "knots": _of_tensors(_knots),
}
