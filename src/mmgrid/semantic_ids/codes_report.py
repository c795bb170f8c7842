"""Quality of item codes: use and entropy of each level, reconstruction error, and collisions.

Shapes: N items, D width, L levels, C codes of a level.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.collisions import Collisions, count_collisions
from mmgrid.semantic_ids.item_vectors import VectorScale, chunks
from mmgrid.semantic_ids.quantiser import Codebook


@dataclass(frozen=True)
class LevelReport:
    """Use and error of one level.

    used: number of codes that at least one item has. entropy_bits: H = −Σ p log₂ p over the shares p of the codes; at most log₂ C.
    perplexity: 2^H, the number of equally frequent codes with the same entropy.
    error: share of the vectors' variance that the codes up to this level leave unexplained,
    Σ ‖v − v̂‖² / Σ ‖v − mean‖²; 0 if all vectors are equal.
    """

    used: int
    entropy_bits: float
    perplexity: float
    error: float


@dataclass(frozen=True)
class CodesReport:
    """Quality of the codes of one domain.

    items: number of items with a code. without_code: items without one (they first appear after the last phase).
    before, after: collisions as encoded, and after resolving them. moved: items whose code was changed.
    """

    items: int
    without_code: int
    codes_per_level: int
    levels: tuple[LevelReport, ...]
    before: Collisions
    after: Collisions
    moved: int

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        values = asdict(self)
        return {**values, "levels": list(values["levels"])}


def codes_report(
    codebook: Codebook, vectors: npt.NDArray[np.floating], encoded: Codes, final: Codes, without_code: int = 0
) -> CodesReport:
    """The report on N items that have codes.

    Args:
        vectors: [N, D].
        encoded, final: [N, L], the codes before and after collisions were resolved.
        without_code: number of further items, which have no code.
    """
    errors = _errors(codebook, vectors, final)
    levels = tuple(_level(final[:, level], codebook.codes, errors[level]) for level in range(codebook.levels))
    return CodesReport(
        items=len(final),
        without_code=without_code,
        codes_per_level=codebook.codes,
        levels=levels,
        before=count_collisions(encoded, codebook.codes),
        after=count_collisions(final, codebook.codes),
        moved=int((encoded != final).any(axis=1).sum()),
    )


def _level(codes: npt.NDArray[np.integer], codes_per_level: int, error: float) -> LevelReport:
    counts = np.bincount(codes, minlength=codes_per_level)
    shares = counts[counts > 0] / max(len(codes), 1)
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0  # avoids -0.0
    return LevelReport(int((counts > 0).sum()), entropy, float(2.0**entropy), error)


def _errors(codebook: Codebook, vectors: npt.NDArray[np.floating], codes: Codes) -> list[float]:
    """Share of variance left unexplained after each level."""
    if not len(vectors):
        return [0.0] * codebook.levels
    centre = VectorScale.of(vectors).centre
    variance = 0.0
    errors = np.zeros(codebook.levels)
    for part in chunks(len(vectors)):
        some = vectors[part].astype(np.float64)
        variance += float(np.square(some - centre).sum())
        for level in range(codebook.levels):
            errors[level] += float(np.square(some - codebook.decode(codes[part, : level + 1])).sum())
    return (errors / variance).tolist() if variance > 0 else [0.0] * codebook.levels
