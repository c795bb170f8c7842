"""`nuslerp`: spherical interpolation of two models or two task vectors, as a whole, by rows or by columns."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import Along, merge_method, sum_of_weights

_PARALLEL = 1e-7  # the sine below which two directions count as one


@merge_method(needs="tensor", returns="weights", base="optional", along=lambda options: options["along"])
def nuslerp(gram: np.ndarray, weights: Sequence[float], *, along: Along = "tensor") -> np.ndarray:
    """θ = sin((1 − t) Ω) / sin Ω · θ₁ + sin(t Ω) / sin Ω · θ₂, with t = w₂ / (w₁ + w₂), Ω the angle between θ₁ and θ₂.

    With a base, the task vectors τᵢ take the place of θᵢ, and the base is added. `along` gives each row (or column) its
    own angle.

    Paper: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985,
    https://doi.org/10.1145/325334.325242; in this form with a base and by rows in mergekit's NuSLERP.

    Edges: exactly two sources. Parallel and opposite directions (sin Ω < 10⁻⁷) are interpolated linearly; unlike
    `slerp`, nearly parallel ones are not. A vector of zeros counts as perpendicular to the other. A tensor of one
    dimension is one row and one column; in a tensor of more dimensions, a row runs along the last, a column along the
    first.

    Args:
        gram: float64 [..., 2, 2], inner products of θ₁ and θ₂ (τ₁ and τ₂ with a base), of the tensor or of each of its
            rows or columns.
        weights: w₁, w₂.
        along: what has an angle of its own: the tensor, or each of its rows or columns.

    Raises:
        MergeError: there are not two sources, or the weights add up to zero.
    """
    if len(weights) != 2:
        raise MergeError(f"nuslerp: takes two sources, not {len(weights)}; use multislerp or karcher")
    t = weights[1] / sum_of_weights("nuslerp", weights, "change them")
    lengths = np.sqrt(gram[..., 0, 0]) * np.sqrt(gram[..., 1, 1])
    cosine = np.divide(gram[..., 0, 1], lengths, out=np.zeros_like(lengths), where=lengths > 0)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    sine = np.sin(angle)
    linear = sine < _PARALLEL
    divisor = np.where(linear, 1.0, sine)
    return np.stack([np.where(linear, share, np.sin(share * angle) / divisor) for share in (1 - t, t)], axis=-1)
