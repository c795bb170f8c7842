"""How the texts of a domain's items lie in the space of their vectors: around which point, and how far apart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ItemTexts:
    """Attributes:
    centre: float[D], the mean of the items' vectors.
    diversity: the mean cosine distance, 1 − cos, of two different items: 0 where all are the same text, about 1 where
        no two have anything in common. NaN with fewer than two items whose vectors are not zero.
    """

    centre: Floats
    diversity: float

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating]) -> "ItemTexts":
        """From item vectors [N, D]."""
        exact = np.asarray(vectors, np.float64)
        norms = np.linalg.norm(exact, axis=1)
        units = exact[norms > 0] / norms[norms > 0, None]
        n = len(units)
        # The squared norm of a sum of unit vectors is the sum of all N² cosines, N of which are those of a vector with
        # itself.
        cosines = float(np.square(units.sum(axis=0)).sum()) - n
        return cls(exact.mean(axis=0), 1.0 - cosines / (n * (n - 1)) if n > 1 else float("nan"))

    def likeness(self, other: "ItemTexts") -> float:
        """The cosine of the two centres."""
        norms = np.linalg.norm(self.centre) * np.linalg.norm(other.centre)
        return float(self.centre @ other.centre / norms)
