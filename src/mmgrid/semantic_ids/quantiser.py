"""The one interface of a quantiser: `fit` makes a codebook of item vectors, `load` reads one, both by its recipe.

A fitted codebook is frozen. It codes any vectors of its width, those of items that appear later included.

Shapes: N items, D width of a vector, L levels, C codes of a level.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from mmgrid.semantic_ids.codebook_files import read_head
from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.item_vectors import Floats
from mmgrid.semantic_ids.recipes import QuantiserRecipe, ResidualKMeansRecipe


class Codebook(Protocol):
    """A fitted quantiser."""

    @property
    def levels(self) -> int:
        """L, codes of one item."""
        ...

    @property
    def codes(self) -> int:
        """C, different codes of one level."""
        ...

    @property
    def width(self) -> int:
        """D, of the vectors it codes."""
        ...

    def encode(self, vectors: npt.NDArray[np.floating]) -> Codes:
        """int32 [N, L]: on each level the nearest code of what the levels before leave over of [N, D].

        Raises ValueError for vectors of another width, or with NaN.
        """
        ...

    def decode(self, codes: npt.NDArray[np.integer]) -> Floats:
        """float32 [N, D]: the vectors that codes [N, l] stand for, of all levels or only the first l ≥ 1."""
        ...

    def last_distances(self, vectors: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> Floats:
        """float32 [N, C]: how far each last code lies from each vector [N, D], given its codes [N, L] but the last.

        Squared distances in the space that is quantised; all finite.
        """
        ...

    def spread(self, vectors: npt.NDArray[np.floating], codes: Codes) -> Codes:
        """int32 [N, L]: `codes` of these vectors after the quantiser's own way of parting items that share one.

        Only last codes change. Items may still share a code: `collisions.separate` comes after.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write `codebook.safetensors` and `codebook.json`."""
        ...


def fit(vectors: npt.NDArray[np.floating], recipe: QuantiserRecipe, seed: int) -> Codebook:
    """A codebook of item vectors [N, D] (float32, N ≥ 1).

    Same vectors, recipe and seed: same codebook, on one machine, with one version of the libraries and one thread.

    Raises:
        ValueError: no vectors, not two dimensions, or NaN or infinity among them.
    """
    if isinstance(recipe, ResidualKMeansRecipe):
        from mmgrid.semantic_ids import residual_kmeans

        return residual_kmeans.fit(vectors, recipe, seed)
    from mmgrid.semantic_ids import rqvae_training  # k-means does without torch

    return rqvae_training.fit(vectors, recipe, seed)


def load(folder: Path) -> Codebook:
    """The codebook that was saved in `folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of a kind that is not known.
    """
    kind = read_head(folder).get("kind")
    try:
        if kind == "residual_kmeans":
            from mmgrid.semantic_ids.residual_kmeans import ResidualKMeans

            return ResidualKMeans.load(folder)
        if kind == "rqvae":
            from mmgrid.semantic_ids.rqvae import RqVae

            return RqVae.load(folder)
    except ValidationError as error:
        raise ValueError(f"{folder}: the codebook's recipe cannot be read: {error}") from None
    raise ValueError(f"{folder}: a codebook of kind {kind!r}; known are 'residual_kmeans' and 'rqvae'")
