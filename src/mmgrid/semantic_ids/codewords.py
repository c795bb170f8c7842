"""Codewords of a residual code: a vector is approximated by the sum of one codeword per level.

A vector's first code is the nearest codeword of the first level; the residual, vector minus codeword, is coded on the
second level, and so on (Lee et al., "Autoregressive Image Generation using Residual Quantization", 2022, eq. 2-3).

Shapes: N vectors, L levels, C codes of a level, W width.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.semantic_ids.item_vectors import Floats, chunks

Codes = npt.NDArray[np.int32]

FARTHEST = float(np.finfo(np.float32).max)  # distance to a code without a codeword: after all others, yet finite


@dataclass(frozen=True, eq=False)
class Codewords:
    """words: float32 [L, C, W], the codewords. used: int64 [L]; on level l only the first used[l] codes have a codeword.

    A level has fewer codewords than codes if it was fitted on fewer distinct vectors. `encode` never returns a code
    without a codeword. A colliding item may be moved to one; it then adds nothing to the sum.
    """

    words: Floats
    used: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.words.ndim != 3 or self.words.dtype != np.float32 or self.used.shape != self.words.shape[:1]:
            raise ValueError(
                f"codewords: words {self.words.dtype} {self.words.shape} and used {self.used.shape}; expected "
                "float32 [levels, codes, width] and one number per level"
            )
        if self.used.size == 0 or self.used.min() < 1 or self.used.max() > self.words.shape[1]:
            raise ValueError(f"codewords: used {self.used.tolist()}; expected 1 to {self.words.shape[1]} per level")
        if not np.isfinite(self.words).all():
            raise ValueError("codewords: NaN or infinity among the words; fit the codebook again")

    @property
    def levels(self) -> int:
        return self.words.shape[0]

    @property
    def codes(self) -> int:
        return self.words.shape[1]

    def encode(self, vectors: Floats) -> Codes:
        """int32 [N, L]: the codes of each vector [N, W]; among equally near codewords, the lowest code."""
        codes = np.empty((len(vectors), self.levels), np.int32)
        for part in chunks(len(vectors)):
            residual = vectors[part].copy()
            for level in range(self.levels):
                chosen = nearest_codewords(residual, self.words[level, : self.used[level]])
                codes[part, level] = chosen
                residual -= self.words[level][chosen]
        return codes

    def decode(self, codes: npt.NDArray[np.integer]) -> Floats:
        """float32 [N, W]: the sum of the codewords of codes [N, l], for all levels or only the first l."""
        total = np.zeros((len(codes), self.words.shape[2]), np.float32)
        for level in range(codes.shape[1]):
            total += self.words[level][codes[:, level]]
        return total

    def last_level_distances(self, vectors: Floats, codes: npt.NDArray[np.integer]) -> Floats:
        """float32 [N, C]: squared distance of the residual after the first L - 1 codes of [N, L] to each last codeword.

        Computed in float64, so that equal vectors have equal distances whatever their position in the batch.
        """
        residual = (vectors - self.decode(codes[:, :-1])).astype(np.float64)
        n_words = int(self.used[-1])
        words = self.words[-1, :n_words].astype(np.float64)
        squares = np.square(residual).sum(axis=1)[:, None] + np.square(words).sum(axis=1) - 2 * residual @ words.T
        distances = np.full((len(vectors), self.codes), FARTHEST, np.float32)
        distances[:, :n_words] = np.clip(squares, 0, FARTHEST)
        return distances


def nearest_codewords(vectors: Floats, words: Floats) -> npt.NDArray[np.int64]:
    """int64 [N]: the nearest codeword, among words [C, W], of each vector [N, W].

    ‖v‖² is left out of the squared distance, since it is the same for all codewords.
    """
    half_squares = 0.5 * np.square(words).sum(axis=1)
    return np.argmin(half_squares - vectors @ words.T, axis=1)
