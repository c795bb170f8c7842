"""The interface of all quantisers: `fit_codebook` fits a codebook to item vectors, `load_codebook` reads one.

A fitted codebook is frozen. It encodes any vectors of its width, including those of items that appear later.

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
        """L, the number of codes of one item."""
        ...

    @property
    def codes(self) -> int:
        """C, the number of different codes on a level."""
        ...

    @property
    def width(self) -> int:
        """D, the width of the vectors that it encodes."""
        ...

    def encode(self, vectors: npt.NDArray[np.floating]) -> Codes:
        """int32 [N, L]: the codes of vectors [N, D]; each level encodes the residual of the levels before it.

        Raises ValueError for vectors of another width, or with NaN.
        """
        ...

    def decode(self, codes: npt.NDArray[np.integer]) -> Floats:
        """float32 [N, D]: the vectors that codes [N, l] stand for, for all levels or only the first l ≥ 1."""
        ...

    def last_level_distances(self, vectors: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> Floats:
        """float32 [N, C]: squared distance of each vector [N, D] to each last code, given its first L - 1 codes of [N, L].

        Measured in the quantised space; all values are finite.
        """
        ...

    def reassign_collisions(self, vectors: npt.NDArray[np.floating], codes: Codes) -> Codes:
        """int32 [N, L]: `codes` of these vectors after the quantiser's own reassignment of colliding items, if it has one.

        Only last codes change. Items may still share a code; `collisions.resolve_collisions` is applied afterwards.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write `codebook.safetensors` and `codebook.json`."""
        ...


def fit_codebook(vectors: npt.NDArray[np.floating], recipe: QuantiserRecipe, seed: int) -> Codebook:
    """Fit a codebook to item vectors [N, D] (float32, N ≥ 1).

    The same vectors, recipe and seed give the same codebook, on one machine with the same library versions and one
    thread.

    Raises:
        ValueError: no vectors, not two dimensions, or NaN or infinity among them.
    """
    if isinstance(recipe, ResidualKMeansRecipe):
        from mmgrid.semantic_ids import residual_kmeans

        return residual_kmeans.fit(vectors, recipe, seed)
    from mmgrid.semantic_ids import rqvae_training  # imported here: k-means needs no torch

    return rqvae_training.fit(vectors, recipe, seed)


def load_codebook(folder: Path) -> Codebook:
    """The codebook that was saved in `folder`.

    Raises:
        FileNotFoundError: the folder holds no codebook.
        ValueError: the codebook is damaged or of an unknown kind.
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
    raise ValueError(f"{folder}: unknown codebook kind {kind!r}; known are 'residual_kmeans' and 'rqvae'")
