"""How much the leading subspaces of several models' task vectors overlap, matrix by matrix."""

import contextlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from mmgrid.merging.arrays.floats import is_float, widen
from mmgrid.merging.arrays.names import layer_of
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.linear_algebra import leading_directions
from mmgrid.merging.models.sources import found, open_source
from mmgrid.merging.models.tensors import Tensors

RANK = 16


def subspace_overlap(
    models: Mapping[str, str | Path | Tensors], base: str | Path | Tensors, *, rank: int = RANK
) -> dict[tuple[str, str], float]:
    """The overlap of the leading subspaces of each two models' task vectors τ = θ − θ₀, in [0, 1].

    φ = ‖V₁ᵀ V₂‖² / k, the mean squared cosine of the angles between the subspaces that the k leading right singular
    vectors of both span; the mean over all matrices in layers, weighted by their numbers of elements. Random subspaces
    of a matrix with n columns have k / n. Source: Hu et al., "LoRA", ICLR 2022, section 7.2, eq. 4.

    Args:
        models: name → its folder, or open tensors.
        rank: k; at most a quarter of the matrix's smaller side, since larger subspaces always overlap.

    Returns:
        (name, name) → φ, for both orders of each pair; NaN if the models share no matrix in which both moved.

    Raises:
        MergeError: there are fewer than two models, or a model cannot be opened.
    """
    if len(models) < 2:
        raise MergeError("an overlap needs at least two models")
    with contextlib.ExitStack() as stack:

        def opened(model: str | Path | Tensors) -> Tensors:
            if isinstance(model, str | Path):
                return stack.enter_context(open_source(found(Path(model))))
            return model

        tensors, start = {name: opened(model) for name, model in models.items()}, opened(base)
        sums = {pair: np.zeros(2) for pair in combinations(models, 2)}
        for name in sorted(start):
            if (
                layer_of(name) is None
                or not _is_matrix(name, start)
                or not all(name in own for own in tensors.values())
            ):
                continue
            leading = {model: _leading(own, start, name, rank) for model, own in tensors.items()}
            for (one, other), total in sums.items():
                k = min(len(leading[one]), len(leading[other]))
                if k:
                    shared = float(np.square(leading[one][:k] @ leading[other][:k].T).sum()) / k
                    total += np.array([shared, 1.0]) * start.info(name).size
    found_for = {pair: float(total[0] / total[1]) if total[1] else float("nan") for pair, total in sums.items()}
    return {**found_for, **{(other, one): value for (one, other), value in found_for.items()}}


def _is_matrix(name: str, tensors: Tensors) -> bool:
    info = tensors.info(name)
    return len(info.shape) == 2 and min(info.shape) > 1 and is_float(info.dtype)


def _leading(model: Tensors, base: Tensors, name: str, rank: int) -> np.ndarray:
    """float64[k, n]: the leading right singular vectors of a task vector."""
    info = base.info(name)
    delta = _values(model, name) - _values(base, name)
    return leading_directions(delta.reshape(info.shape), max(1, min(rank, min(info.shape) // 4))).right


def _values(tensors: Tensors, name: str) -> np.ndarray:
    info = tensors.info(name)
    return widen(tensors.read(name, 0, info.size), info.dtype).astype(np.float64)
