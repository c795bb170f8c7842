"""Slow reference implementations of merge methods: over whole models at once, in float64, as in the papers.

A model is a dict of arrays. Each function is a `Reference` for the kit in `merge_method`: it takes the sources by name,
the base, the weights by name and the method's options, and returns the merged model at λ = 1. They share no arithmetic
with the engine. Random methods use the engine's random numbers, which `tests/merging/test_random_places.py` tests.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from mmgrid.merging.methods.stages import Place
from mmgrid.merging.methods.stages.random import happens, words

Array = np.ndarray
Model = dict[str, Array]
Sources = Mapping[str, Model]
Weights = Mapping[str, float]
Options = Mapping[str, Any]


# ---- stages


def share_of(share: float, n: int) -> int:
    """⌊share · n⌋, with `share` as a decimal number."""
    return math.floor(Fraction(str(share)) * n)


def groups(model: Model, scope: str) -> list[list[str]]:
    """The groups of tensors that share one threshold, sorted by name."""
    if scope == "tensor":
        return [[name] for name in sorted(model)]
    if scope == "model":
        return [sorted(model)]
    towers: dict[str, list[str]] = {}
    for name in sorted(model):
        first = name.split(".")[0]
        towers.setdefault(first if first.endswith("_tower") else "", []).append(name)
    return list(towers.values())


def ranked(model: Model, names: Sequence[str]) -> Array:
    """The rank by magnitude of each element of the concatenated tensors; 0 is the largest.

    A full sort; of equal magnitudes, the first element ranks first.
    """
    flat = np.concatenate([np.abs(model[name]).ravel() for name in names])
    ranks = np.empty(len(flat), np.int64)
    ranks[np.argsort(-flat, kind="stable")] = np.arange(len(flat))
    return ranks


def between_ranks(model: Model, scope: str, cut: Callable[[int], tuple[int, int]]) -> Model:
    """Sets elements to zero whose rank in their group of n is outside of the range `cut(n)` (first, last + 1)."""
    kept = {}
    for names in groups(model, scope):
        ranks = ranked(model, names)
        first, last = cut(len(ranks))
        chosen = (ranks >= first) & (ranks < last)
        sizes = [model[name].size for name in names]
        for name, part in zip(names, np.split(chosen, np.cumsum(sizes)[:-1]), strict=True):
            kept[name] = np.where(part.reshape(model[name].shape), model[name], 0.0)
    return kept


def trimmed(model: Model, density: float, scope: str, least: int = 0) -> Model:
    """Keeps the ⌊density · n⌋ largest elements of each group, but at least `least`."""
    return between_ranks(model, scope, lambda n: (0, max(share_of(density, n), min(least, n))))


def to_norm(kept: Model, before: Model) -> Model:
    """Scales each tensor to the L1 norm that it had."""
    sums = {name: (np.abs(before[name]).sum(), np.abs(array).sum()) for name, array in kept.items()}
    return {name: array * (sums[name][0] / sums[name][1] if sums[name][1] else 1.0) for name, array in kept.items()}


def rescaled(kept: Model, before: Model, options: Options) -> Model:
    return to_norm(kept, before) if options.get("rescale") == "norm" else kept


def without_outliers(model: Model, density: float, gamma: float, scope: str) -> Model:
    """Drops the ⌊gamma · n⌋ largest elements of each group and keeps the next ⌊density · n⌋."""
    return between_ranks(
        model, scope, lambda n: (share_of(gamma, n), min(n, share_of(gamma, n) + share_of(density, n)))
    )


def place(source: str, tensor: str, array: Array, *, seed: int = 0, stage: int = 0) -> Place:
    """The place of a whole tensor."""
    return Place(source, tensor, 0, array.shape, 0.0, seed, stage)


def dropped(model: Model, source: str, drop: float, *, rescale: bool = True) -> Model:
    """Sets elements to zero by the engine's random numbers."""
    result = {}
    for name, array in model.items():
        gone = happens(place(source, name, array), array.size, drop).reshape(array.shape)
        result[name] = np.where(gone, 0.0, array) / (1 - drop if rescale else 1.0)
    return result


def dropped_by_magnitude(model: Model, source: str, density: float, epsilon: float, *, rescale: bool = True) -> Model:
    """Keeps each element with a probability that grows linearly with its rank by magnitude in its row."""
    result = {}
    for name, array in model.items():
        draws = words(place(source, name, array), array.size).reshape(array.shape) / 2**32
        changed = np.zeros(array.shape)
        rows, row_draws, row_changed = (
            a.reshape(-1, array.shape[-1] if array.ndim else 1) for a in (array, draws, changed)
        )
        for row, draw, target in zip(rows, row_draws, row_changed, strict=True):
            order = sorted(range(len(row)), key=lambda column: (abs(row[column]), column))
            for rank, column in enumerate(order):
                spread = rank / (len(row) - 1) - 0.5 if len(row) > 1 else 0.0
                keep = density + epsilon * spread
                if draw[column] < keep:
                    target[column] = row[column] / (keep if rescale else 1.0)
        result[name] = changed
    return result


# ---- combinations


def deltas_of(sources: Sources, base: Model | None) -> dict[str, Model]:
    assert base is not None
    return {source: {name: model[name] - base[name] for name in model} for source, model in sources.items()}


def weighted_sum(sources: Sources, weights: Weights) -> Model:
    names = next(iter(sources.values()))
    return {name: sum((weights[source] * sources[source][name] for source in sources), 0.0) for name in names}


def elected(sources: Sources, weights: Weights, *, elect: str, normalise: bool) -> Model:
    """Steps 2 and 3 of TIES; for positive weights."""
    merged = {}
    for name in next(iter(sources.values())):
        votes = sum(sources[source][name] * (weights[source] if elect == "weighted" else 1.0) for source in sources)
        sign = np.where(votes >= 0, 1.0, -1.0)
        total, shares = np.zeros(sign.shape), np.zeros(sign.shape)
        for source, weight in weights.items():
            agrees = sources[source][name] * sign > 0
            total += np.where(agrees, weight * sources[source][name], 0.0)
            shares += np.where(agrees, weight, 0.0)
        merged[name] = total / np.where(shares == 0, 1.0, shares) if normalise else total
    return merged


def combined(sources: Sources, weights: Weights, options: Options) -> Model:
    """The weighted sum, or the election of TIES, by the option `inner`."""
    if options["inner"] == "ties":
        return elected(sources, weights, elect=options["elect"], normalise=options["normalise"])
    total = weighted_sum(sources, weights)
    return {name: array / (sum(weights.values()) if options["normalise"] else 1.0) for name, array in total.items()}


def added(base: Model | None, delta: Model) -> Model:
    assert base is not None
    return {name: base[name] + delta[name] for name in delta}


# ---- methods


def linear(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    return combined(sources, weights, {"inner": "linear", **options})


def task_arithmetic(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    return added(base, combined(deltas_of(sources, base), weights, {"inner": "linear", **options}))


def slerp(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    (one, first), (other, second) = sorted(sources.items())
    t = weights[other] / (weights[one] + weights[other])
    merged = {}
    for name in first:
        v0, v1 = first[name].ravel(), second[name].ravel()
        if not v0.size:
            merged[name] = first[name]
            continue
        cosine = float(np.clip(v0 @ v1 / math.sqrt(v0 @ v0) / math.sqrt(v1 @ v1), -1, 1))
        angle = math.acos(cosine)
        if abs(cosine) > 0.9995:
            flat = (1 - t) * v0 + t * v1
        else:
            flat = (math.sin((1 - t) * angle) * v0 + math.sin(t * angle) * v1) / math.sin(angle)
        merged[name] = flat.reshape(first[name].shape)
    return merged


def multislerp(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    below = base or {name: np.zeros_like(array) for name, array in next(iter(sources.values())).items()}
    total = sum(weights.values()) if options["normalise"] else 1.0
    merged = {}
    for name in below:
        vectors = [(model[name] - below[name]).ravel() for _, model in sorted(sources.items())]
        shares = [weights[source] / total for source in sorted(sources)]
        if not vectors[0].size:
            merged[name] = below[name]
            continue
        lengths = [math.sqrt(v @ v) for v in vectors]
        units = [v / (length + options["eps"]) for v, length in zip(vectors, lengths, strict=True)]
        mean = sum(w * u for w, u in zip(shares, units, strict=True))
        mean = mean / math.sqrt(mean @ mean)
        tangent = sum(w * (u - (u @ mean) * mean) for w, u in zip(shares, units, strict=True))
        size = math.sqrt(tangent @ tangent) + options["eps"]
        point = math.cos(size) * mean + (math.sin(size) / size if size else 1.0) * tangent
        flat = point * sum(w * length for w, length in zip(shares, lengths, strict=True))
        merged[name] = below[name] + flat.reshape(below[name].shape)
    return merged


def model_stock(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    deltas, n = deltas_of(sources, base), len(sources)
    merged = {}
    for name in next(iter(deltas.values())):
        vectors = [delta[name].ravel() for delta in deltas.values()]
        cosines = [
            float(v @ u) / (math.sqrt(v @ v) * math.sqrt(u @ u)) if (v @ v) * (u @ u) else 0.0
            for v, u in itertools.combinations(vectors, 2)
        ]
        cosine = sum(cosines) / len(cosines)
        t = n * cosine / (1 + (n - 1) * cosine)
        merged[name] = t * sum(delta[name] for delta in deltas.values()) / n
    return added(base, merged)


def ties(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    deltas = deltas_of(sources, base)
    if options["drop"]:
        deltas = {source: dropped(delta, source, options["drop"]) for source, delta in deltas.items()}
    kept = {
        source: trimmed(delta, options["density"], options["scope"], options.get("least", 0))
        for source, delta in deltas.items()
    }
    factor = 1 / options["density"] if options.get("rescale") is True else 1.0
    kept = {source: {name: factor * array for name, array in own.items()} for source, own in kept.items()}
    deltas = {source: rescaled(own, deltas[source], options) for source, own in kept.items()}
    return added(base, elected(deltas, weights, elect=options["elect"], normalise=options["normalise"]))


def dare(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    deltas = {
        source: rescaled(dropped(delta, source, options["drop"], rescale=options["rescale"] is True), delta, options)
        for source, delta in deltas_of(sources, base).items()
    }
    return added(base, combined(deltas, weights, options))


def mask(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    if options["mask"] == "random":
        return dare(sources, base, weights, options)
    density = float(1 - Fraction(str(options["drop"])))
    factor = density if options["rescale"] else 1.0
    deltas = {}
    for source, delta in deltas_of(sources, base).items():
        kept = trimmed(delta, density, options["scope"])
        deltas[source] = {name: array / factor for name, array in kept.items()}
    return added(base, combined(deltas, weights, options))


def breadcrumbs(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    deltas = {
        source: rescaled(
            without_outliers(delta, options["density"], options["gamma"], options["scope"]), delta, options
        )
        for source, delta in deltas_of(sources, base).items()
    }
    return added(base, combined(deltas, weights, options))


def della(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    deltas = {
        source: rescaled(
            dropped_by_magnitude(
                delta, source, options["density"], options["epsilon"], rescale=options["rescale"] is True
            ),
            delta,
            options,
        )
        for source, delta in deltas_of(sources, base).items()
    }
    return added(base, combined(deltas, weights, options))


def lines(depths: Mapping[str, float]) -> Callable[[Sources, Model | None, Weights, Options], Model]:
    """The reference of `lines` for models with these depths of tensors (0 is the first layer, 1 the last)."""

    def merged(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
        first, last = options["first"], options["last"]
        deltas = {
            source: {name: array * (first + (last - first) * depths[name]) for name, array in delta.items()}
            for source, delta in deltas_of(sources, base).items()
        }
        return added(base, combined(deltas, weights, options))

    return merged


def velocity(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    chain = [sources[name] for name in sorted(sources)]
    step = options["step"] / (len(chain) - 1)
    return {name: chain[-1][name] + step * (chain[-1][name] - chain[0][name]) for name in chain[0]}


def acceleration(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    oldest, older, newest = (sources[name] for name in sorted(sources)[-3:])
    s, merged = options["step"], {}
    for name in newest:
        speed = newest[name] - older[name]
        change = newest[name] - 2 * older[name] + oldest[name]
        merged[name] = newest[name] + s * speed + s * (s + 1) / 2 * change
    return merged


def decay(sources: Sources, base: Model | None, weights: Weights, options: Options) -> Model:
    chain = [sources[name] for name in sorted(sources)]
    shares = [options["rate"] ** age for age in reversed(range(len(chain)))]
    return {
        name: sum(share * model[name] for share, model in zip(shares, chain, strict=True)) / sum(shares)
        for name in chain[0]
    }
