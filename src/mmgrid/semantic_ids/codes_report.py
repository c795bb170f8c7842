"""How good codes are: how evenly each level's codes are used, what they lose, and how many items share one.

Shapes: N items, D width, L levels, C codes of a level.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.collisions import Collisions, count
from mmgrid.semantic_ids.item_vectors import VectorScale, chunks
from mmgrid.semantic_ids.quantiser import Codebook


@dataclass(frozen=True)
class LevelReport:
    """One level's use.

    used: codes that some item has. entropy_bits: H = −Σ p log₂ p over the shares p of the codes; at most log₂ C.
    perplexity: 2^H, the number of equally frequent codes that would have this entropy.
    error: share of the vectors' variance that the codes up to this level leave unexplained,
    Σ ‖v − v̂‖² / Σ ‖v − mean‖²; 0 where all vectors are the same.
    """

    used: int
    entropy_bits: float
    perplexity: float
    error: float


@dataclass(frozen=True)
class CodesReport:
    """Codes of all levels.

    items: that have codes. without_code: that have none (they appear after the last phase).
    before, after: collisions as encoded, and after moving items. moved: items whose code is not the one encoded.
    """

    items: int
    without_code: int
    codes_per_level: int
    levels: tuple[LevelReport, ...]
    before: Collisions
    after: Collisions
    moved: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        values = asdict(self)
        return {**values, "levels": list(values["levels"])}


def report(
    codebook: Codebook, vectors: npt.NDArray[np.floating], encoded: Codes, final: Codes, without_code: int = 0
) -> CodesReport:
    """The report of N items that have codes.

    Args:
        vectors: [N, D].
        encoded, final: [N, L], before and after moving.
        without_code: further items.
    """
    errors = _errors(codebook, vectors, final)
    levels = tuple(_level(final[:, level], codebook.codes, errors[level]) for level in range(codebook.levels))
    return CodesReport(
        items=len(final),
        without_code=without_code,
        codes_per_level=codebook.codes,
        levels=levels,
        before=count(encoded, codebook.codes),
        after=count(final, codebook.codes),
        moved=int((encoded != final).any(axis=1).sum()),
    )


def _level(codes: npt.NDArray[np.integer], codes_per_level: int, error: float) -> LevelReport:
    counts = np.bincount(codes, minlength=codes_per_level)
    shares = counts[counts > 0] / max(len(codes), 1)
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero
    return LevelReport(int((counts > 0).sum()), entropy, float(2.0**entropy), error)


def _errors(codebook: Codebook, vectors: npt.NDArray[np.floating], codes: Codes) -> list[float]:
    """The unexplained share after each level."""
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
