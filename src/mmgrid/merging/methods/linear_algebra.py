"""Singular value decompositions for the spectral methods: numpy in, numpy out, computed by torch, on CUDA if available.

Everything is computed in float64, so that rounding errors stay far below float32, and on one thread per worker: more
threads would sum in another order and give other bits, and workers that wait for each other's threads are many times
slower (measured with two workers on two busy cores: six times). The workers already use all cores.

Singular vectors of singular values that are zero (below 2⁻²³ of the largest, the resolution of float32) are arbitrary,
so they are left out of every result.
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
_SPARE_DIRECTIONS, _ITERATIONS = 8, 4


class Directions(NamedTuple):
    """Singular directions of a matrix [m, n], largest singular value first; `left · diag(sizes) · right` is the matrix.

    Attributes:
        left: [m, k], orthonormal columns.
        sizes: [k], singular values, greater than zero.
        right: [k, n], orthonormal rows.
    """

    left: Matrix
    sizes: Matrix
    right: Matrix

    def top(self, k: int) -> Directions:
        """The k largest directions, or all if there are fewer."""
        return Directions(self.left[:, :k], self.sizes[:k], self.right[:k])

    def matrix(self) -> Matrix:
        """The sum of the directions, [m, n]."""
        return product(self.left * self.sizes, self.right)


def is_matrix(tensors: Sequence[Floats]) -> bool:
    """Whether tensors (of one shape) have at least two dimensions and are not empty."""
    return tensors[0].ndim >= 2 and tensors[0].size > 0


def as_matrix(tensor: Floats | Matrix, weight: float = 1.0) -> Matrix:
    """A tensor times its weight as a float64 matrix [m, n], flattened after its first dimension."""
    return np.multiply(tensor.reshape(tensor.shape[0], -1), weight, dtype=np.float64)


def as_tensor(matrix: Matrix, shape: tuple[int, ...]) -> Floats:
    """Reshapes a result to the tensor's shape and rounds it to float32."""
    return matrix.reshape(shape).astype(np.float32)


def mean_of(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Σ wᵢ τᵢ / N: how the spectral methods merge vectors and scalars."""
    total = weighted_sum(tensors, weights)
    return np.divide(total, np.float32(len(tensors)), out=total)


def directions(matrix: Matrix, size: float | None = None) -> Directions:
    """The singular directions of a matrix [m, n] with nonzero singular values.

    A singular value counts as zero relative to `size`; default: the largest singular value. If the matrix is the
    residual of a larger one, pass the norm of the larger one, or rounding errors would count as directions.

    Raises:
        MergeError: the decomposition does not converge.
    """
    import torch

    m, n = matrix.shape
    tall = matrix if m >= n else matrix.T  # measured: LAPACK takes more than twice as long for a wide matrix
    try:
        found = _on_one_thread(lambda: torch.linalg.svd(_tensor(tall), full_matrices=False))
    except torch.linalg.LinAlgError as error:
        raise MergeError(f"the singular value decomposition of a {m} × {n} matrix failed: {error}") from error
    left, sizes, right = (part.cpu().numpy() for part in found)
    zero = _NEGLIGIBLE * (size if size is not None else sizes[0] if len(sizes) else 0.0)
    rank = int(np.count_nonzero(sizes > zero))
    if m < n:
        left, right = right.T, left.T
    return Directions(left, sizes, right).top(rank)


def leading_directions(matrix: Matrix, k: int) -> Directions:
    """The k largest singular directions of a matrix [m, n], found by a randomised search: much faster for k ≪ min(m, n).

    Source: Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011, algorithms 4.4 and 5.1,
    with 8 more directions than asked for and four iterations of the subspace.

    Raises:
        MergeError: the decomposition does not converge.
    """
    rows, columns = matrix.shape
    wanted = min(k + _SPARE_DIRECTIONS, rows, columns)
    start = np.random.Generator(np.random.Philox(0)).standard_normal((columns, wanted))
    basis = _orthonormal(product(matrix, start))
    for _ in range(_ITERATIONS):
        basis = _orthonormal(product(matrix, _orthonormal(product(matrix.T, basis))))
    left, sizes, right = directions(product(basis.T, matrix))
    return Directions(product(basis, left), sizes, right).top(k)


def _orthonormal(matrix: Matrix) -> Matrix:
    import torch

    return _on_one_thread(lambda: torch.linalg.qr(_tensor(matrix)).Q).cpu().numpy()


def isometry(matrix: Matrix) -> Matrix:
    """The polar factor U Vᵀ of U Σ Vᵀ: the nearest matrix whose nonzero singular values are all 1."""
    if not matrix.size:
        return matrix
    left, _, right = directions(matrix)
    return product(left, right)


def product(one: Matrix, other: Matrix) -> Matrix:
    """The matrix product."""
    return _on_one_thread(lambda: _tensor(one) @ _tensor(other)).cpu().numpy()


def solution(matrix: Matrix, right: Matrix) -> Matrix:
    """x [n, k] with matrix [n, n] · x = right [n, k].

    Raises:
        MergeError: the matrix is singular.
    """
    import torch

    try:
        return _on_one_thread(lambda: torch.linalg.solve(_tensor(matrix), _tensor(right))).cpu().numpy()
    except torch.linalg.LinAlgError as error:
        n = len(matrix)
        raise MergeError(f"a system of {n} linear equations has no single solution; raise damping ({error})") from error


def _tensor(matrix: Matrix) -> torch.Tensor:
    """A copy on the computing device. torch aligns its memory; otherwise MKL's bits may differ from run to run."""
    import torch

    return torch.tensor(matrix, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")


_counting = threading.Lock()
_computing = 0  # number of threads that are computing
_threads_before = 1


def _on_one_thread(compute: Callable[[], Any]) -> Any:
    """Runs `compute` with torch limited to one thread, and returns its result.

    torch keeps its number of threads both globally and per calling thread. So `compute` runs in a new thread, whose
    setting ends with it, and the global setting is restored when the last computation is done.
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
