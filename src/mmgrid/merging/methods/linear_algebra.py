"""Singular vectors for the methods that look at matrices: numpy in, numpy out, torch in between (on CUDA if there is).

All of it is float64, so that its rounding errors are far below float32, and on one thread: the sums of several run in
another order and give other bits, and several workers that wait for each other's threads take many times as long
(measured with two on two busy cores: six times). Workers are what uses the cores.

What is not determined by the data is left out: the singular vectors of singular values that are zero (below 2⁻²³ of
the largest, where float32 cannot tell) could be anything, so no result may contain them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import weighted_sum

if TYPE_CHECKING:
    import torch

Matrix = NDArray[np.float64]
_NEGLIGIBLE = 2.0**-23


class Directions(NamedTuple):
    """Singular directions of a matrix [m, n], the largest first; `left · diag(sizes) · right` is the matrix.

    Attributes:
        left: [m, k], orthonormal columns.
        sizes: [k], singular values, greater than zero.
        right: [k, n], orthonormal rows.
    """

    left: Matrix
    sizes: Matrix
    right: Matrix

    def top(self, k: int) -> Directions:
        """The k largest, or as many as there are."""
        return Directions(self.left[:, :k], self.sizes[:k], self.right[:k])

    def matrix(self) -> Matrix:
        """What they add up to, [m, n]."""
        return product(self.left * self.sizes, self.right)


def is_matrix(tensors: Sequence[Floats]) -> bool:
    """Whether tensors (of one shape) have rows and columns: two dimensions or more, and elements."""
    return tensors[0].ndim >= 2 and tensors[0].size > 0


def as_matrix(tensor: Floats | Matrix, weight: float = 1.0) -> Matrix:
    """A tensor times its weight in float64; dimensions from the second on are one, [m, n]."""
    return np.multiply(tensor.reshape(tensor.shape[0], -1), weight, dtype=np.float64)


def as_tensor(matrix: Matrix, shape: tuple[int, ...]) -> Floats:
    """A result in the shape of the tensor, rounded to float32."""
    return matrix.reshape(shape).astype(np.float32)


def mean_of(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Σ wᵢ τᵢ / N: what the spectral methods do with vectors and scalars."""
    total = weighted_sum(tensors, weights)
    return np.divide(total, np.float32(len(tensors)), out=total)


def directions(matrix: Matrix, size: float | None = None) -> Directions:
    """The singular directions of a matrix [m, n] whose singular values are not zero.

    `size` is what singular values are compared with to be called zero; default: the largest of them. A matrix that
    is what is left of a larger one needs the size of that, or its directions could be rounding errors.

    Raises:
        MergeError: the decomposition does not converge.
    """
    import torch

    m, n = matrix.shape
    tall = matrix if m >= n else matrix.T  # measured: a wide matrix takes LAPACK more than twice as long
    try:
        found = _on_one_thread(lambda: torch.linalg.svd(_tensor(tall), full_matrices=False))
    except torch.linalg.LinAlgError as error:
        raise MergeError(f"a matrix of {m} × {n} has no singular value decomposition: {error}") from error
    left, sizes, right = (part.cpu().numpy() for part in found)
    zero = _NEGLIGIBLE * (size if size is not None else sizes[0] if len(sizes) else 0.0)
    rank = int(np.count_nonzero(sizes > zero))
    if m < n:
        left, right = right.T, left.T
    return Directions(left, sizes, right).top(rank)


def isometry(matrix: Matrix) -> Matrix:
    """The nearest matrix whose singular values are 1 (and 0 where they are 0): U Vᵀ of U Σ Vᵀ, the polar factor."""
    if not matrix.size:
        return matrix
    left, _, right = directions(matrix)
    return product(left, right)


def product(one: Matrix, other: Matrix) -> Matrix:
    """The matrix product."""
    return _on_one_thread(lambda: _tensor(one) @ _tensor(other)).cpu().numpy()


def _tensor(matrix: Matrix) -> torch.Tensor:
    """A copy where it is computed; torch aligns its memory, without which MKL's bits may differ from run to run."""
    import torch

    return torch.tensor(matrix, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")


_counting = threading.Lock()
_computing = 0  # how many are at it
_threads_before = 1


def _on_one_thread(compute: Callable[[], Any]) -> Any:
    """What `compute` gives, with one thread for torch.

    torch's number of threads is one setting for all and another one of each thread that uses it. So this is done in a
    thread of its own, whose setting dies with it, and the common one is put back once nobody computes any more.
    """
    import torch

    if torch.cuda.is_available():
        return compute()
    results: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        global _computing, _threads_before
        with _counting:
            if not _computing:
                _threads_before = torch.get_num_threads()
            _computing += 1
            torch.set_num_threads(1)
        try:
            results.append(compute())
        except BaseException as error:
            failures.append(error)
        finally:
            with _counting:
                _computing -= 1
                if not _computing:
                    torch.set_num_threads(_threads_before)

    thread = threading.Thread(target=run, name="merge-linear-algebra", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
