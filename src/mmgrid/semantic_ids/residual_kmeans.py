"""Residual k-means: the codewords of each level are the k-means centres of the residuals of the levels before it.

It is the RQ-VAE without its network, and needs neither a training loop nor a GPU.

Shapes: N items, D width of a vector, L levels, C codes of a level.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from mmgrid.seeds import derive
from mmgrid.semantic_ids import codebook_files
from mmgrid.semantic_ids.codewords import Codes, Codewords, nearest_codewords
from mmgrid.semantic_ids.item_vectors import Floats, VectorScale, check_vectors, chunks
from mmgrid.semantic_ids.recipes import ResidualKMeansRecipe

ARRAYS = frozenset({"words", "used", "centre", "scale"})


@dataclass(frozen=True, eq=False)
class ResidualKMeans:
    """A codebook (see `quantiser.Codebook`) with codewords in the space of the item vectors."""

    recipe: ResidualKMeansRecipe
    codewords: Codewords
    scale: VectorScale

    @property
    def levels(self) -> int:
        return self.codewords.levels

    @property
    def codes(self) -> int:
        return self.codewords.codes

    @property
    def width(self) -> int:
        return len(self.scale.centre)

    def encode(self, vectors: npt.NDArray[np.floating]) -> Codes:
        vectors = check_vectors(vectors, self.width)
        codes = np.empty((len(vectors), self.levels), np.int32)
        for part in chunks(len(vectors)):
            codes[part] = self.codewords.encode(self.scale.apply(vectors[part]))
        return codes

    def decode(self, codes: npt.NDArray[np.integer]) -> Floats:
        return self.scale.undo(self.codewords.decode(codes))

    def last_level_distances(self, vectors: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> Floats:
        return self.codewords.last_level_distances(self.scale.apply(vectors), codes)

    def reassign_collisions(self, vectors: npt.NDArray[np.floating], codes: Codes) -> Codes:
        return codes  # k-means has no reassignment

    def save(self, folder: Path) -> None:
        arrays = {
            "words": self.codewords.words,
            "used": self.codewords.used,
            "centre": self.scale.centre,
            "scale": np.array([self.scale.scale]),
        }
        codebook_files.write(folder, {"kind": self.recipe.kind, "recipe": self.recipe.model_dump()}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that `save` wrote. Raises ValueError if arrays and recipe do not fit together."""
        recipe = ResidualKMeansRecipe.model_validate(codebook_files.read_head(folder).get("recipe"))
        arrays = codebook_files.read_arrays(folder, ARRAYS)
        words, centre = arrays["words"], arrays["centre"]
        expected = (recipe.levels, recipe.codes, len(centre))
        if words.shape != expected:
            raise ValueError(f"{folder}: words {words.shape}; the recipe says {expected}: fit the codebook again")
        return cls(recipe, Codewords(words, arrays["used"]), VectorScale(centre, float(arrays["scale"][0])))


def fit(vectors: npt.NDArray[np.floating], recipe: ResidualKMeansRecipe, seed: int) -> ResidualKMeans:
    """See `quantiser.fit_codebook`."""
    vectors = check_vectors(vectors)
    scale = VectorScale.of(vectors)
    residual = np.empty(vectors.shape, np.float32)
    for part in chunks(len(vectors)):
        residual[part] = scale.apply(vectors[part])
    words = np.zeros((recipe.levels, recipe.codes, vectors.shape[1]), np.float32)
    used = np.zeros(recipe.levels, np.int64)
    for level in range(recipe.levels):
        found = kmeans_words(
            residual,
            recipe.codes,
            iterations=recipe.iterations,
            mini_batch_size=recipe.mini_batch_size if len(vectors) > recipe.mini_batch_above else None,
            seed=derive(seed, "residual k-means", level),
        )
        used[level] = len(found)
        words[level, : len(found)] = found
        for part in chunks(len(residual)):
            residual[part] -= found[nearest_codewords(residual[part], found)]
    return ResidualKMeans(recipe, Codewords(words, used), scale)


def kmeans_words(vectors: Floats, codes: int, *, iterations: int, mini_batch_size: int | None, seed: int) -> Floats:
    """float32 [≤ `codes`, D]: the k-means centres of vectors [N, D]; the distinct vectors if there are at most `codes`.

    Args:
        iterations: maximum.
        mini_batch_size: vectors per batch; None uses all at once (Lloyd).
    """
    distinct = _distinct(vectors, codes)
    if distinct is not None:
        return distinct
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    largest = float(np.abs(vectors).max())  # residuals after three levels may be too small to square in float32
    state = seed % 2**32  # both default to one start by k-means++
    if mini_batch_size is None:
        model = KMeans(codes, max_iter=iterations, random_state=state, copy_x=False)
    else:
        model = MiniBatchKMeans(codes, max_iter=iterations, random_state=state, batch_size=mini_batch_size)
    with warnings.catch_warnings():
        # k-means merges vectors that differ in their last bits only: two codewords coincide, and nothing is lost.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors / np.float32(largest))
    return (np.asarray(model.cluster_centers_) * largest).astype(np.float32)


def _distinct(vectors: Floats, most: int) -> Floats | None:
    """The distinct rows, sorted, if there are at most `most`; None otherwise."""
    first = vectors[: 4 * most]  # nearly always enough to find more than `most`
    if len(first) < len(vectors) and len(np.unique(first, axis=0)) > most:
        return None
    rows = np.unique(vectors, axis=0)
    return rows if len(rows) <= most else None
