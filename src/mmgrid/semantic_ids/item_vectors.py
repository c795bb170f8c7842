"""Item vectors as quantisers read them: checked, centred and scaled.

Vectors of different text models differ in scale by orders of magnitude, and most share one large common direction.
Centring and scaling remove both, so that a learning rate means the same for every model and float32 precision is
spent on the differences between items. One number scales all dimensions, so distances keep their order.

Shapes: N items, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CHUNK = 16_384  # items processed at once

Floats = npt.NDArray[np.float32]


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover 0 … n - 1 in order."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def check_vectors(vectors: npt.ArrayLike, width: int | None = None) -> npt.NDArray[np.floating]:
    """`vectors` unchanged, after checking that they are finite numbers [N, D]; a memory-mapped table stays on disk.

    Raises:
        ValueError: not two dimensions, not `width` wide, not floating-point, or NaN or infinity in some row.
    """
    array = vectors if isinstance(vectors, np.ndarray) else np.asarray(vectors)
    if array.ndim != 2:
        raise ValueError(f"item vectors: shape {array.shape}; expected two dimensions, items and width")
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"item vectors: numbers of type {array.dtype}; expected float32")
    if width is not None and array.shape[1] != width:
        raise ValueError(
            f"item vectors: width {array.shape[1]}; the codebook was fitted on width {width}: "
            "use vectors of the same model, or fit a new codebook"
        )
    if array.shape[1] == 0:
        raise ValueError("item vectors: width 0; a vector needs at least one number")
    bad = [part.start + np.flatnonzero(~np.isfinite(array[part]).all(axis=1)) for part in chunks(len(array))]
    rows = np.concatenate(bad) if bad else np.empty(0, np.int64)
    if rows.size:
        raise ValueError(
            f"item vectors: NaN or infinity in {rows.size} of {len(array)} rows, first in row {rows[0]}: "
            "look for items with an empty text, or a model whose activations overflowed"
        )
    return array


@dataclass(frozen=True, eq=False)
class VectorScale:
    """Centring and scaling of vectors: (v − centre) / scale.

    centre: float64 [D], the mean of the vectors. scale: their root mean square distance from the mean, 1 if all are
    equal.
    """

    centre: npt.NDArray[np.float64]
    scale: float

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating]) -> VectorScale:
        """The scale of checked vectors [N, D], N ≥ 1."""
        if not len(vectors):
            raise ValueError("item vectors: none given; fitting a codebook needs at least one item")
        parts = list(chunks(len(vectors)))
        centre = sum((vectors[part].sum(axis=0, dtype=np.float64) for part in parts), np.zeros(vectors.shape[1]))
        centre = centre / len(vectors)
        square = sum(float(np.square(vectors[part] - centre).sum()) for part in parts)
        return cls(centre, float(np.sqrt(square / len(vectors))) or 1.0)

    def apply(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """float32 [N, D]: the vectors, centred and scaled."""
        return ((vectors - self.centre) / self.scale).astype(np.float32)

    def undo(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """float32 [N, D]: the inverse of `apply`, vectors in the scale of the text model."""
        return (vectors * self.scale + self.centre).astype(np.float32)
