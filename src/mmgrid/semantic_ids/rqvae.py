"""RQ-VAE: an encoder, residual quantisation of its output, and a decoder that reconstructs the item vector.

Lee et al., "Autoregressive Image Generation using Residual Quantization" (2022); used for semantic IDs by TIGER
(Rajput et al., "Recommender Systems with Generative Retrieval", 2023) and, with a balanced last level, by LC-Rec
(Zheng et al., "Adapting Large Language Models by Integrating Collaborative Semantics for Recommendation", 2024).
`rqvae_training` holds the training.

Shapes: N items, D width of an item vector, W width of the latent vector, L levels, C codes of a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mmgrid.backbone.device import device
from mmgrid.semantic_ids import codebook_files
from mmgrid.semantic_ids.codewords import Codes, Codewords
from mmgrid.semantic_ids.item_vectors import Floats, VectorScale, check_vectors, chunks
from mmgrid.semantic_ids.reassignment import reassign_collisions
from mmgrid.semantic_ids.recipes import RqVaeRecipe

ARRAYS = frozenset({"words", "centre", "scale"})


def perceptron(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers of these widths, with dropout before each and ReLU between them."""
    layers: list[nn.Module] = []
    for place, (inner, outer) in enumerate(pairwise(widths)):
        if place:
            layers.append(nn.ReLU())
        linear = nn.Linear(inner, outer)
        nn.init.xavier_normal_(linear.weight)  # torch's default initialisation shrinks a vector with every layer
        nn.init.zeros_(linear.bias)
        layers += [nn.Dropout(dropout), linear]
    return nn.Sequential(*layers)


class RqVaeNetwork(nn.Module):
    """Encoder, mirrored decoder, and the codewords of all levels."""

    def __init__(self, recipe: RqVaeRecipe, width: int) -> None:
        super().__init__()
        widths = [width, *recipe.hidden, recipe.width]
        self.encoder = perceptron(widths, recipe.dropout)
        self.decoder = perceptron(widths[::-1], recipe.dropout)
        self.words = nn.Parameter(torch.zeros(recipe.levels, recipe.codes, recipe.width))

    @property
    def device(self) -> torch.device:
        return self.words.device

    def codewords(self) -> Codewords:
        levels, codes, _ = self.words.shape
        return Codewords(self.words.detach().cpu().numpy().copy(), np.full(levels, codes, np.int64))


@dataclass(frozen=True, eq=False)
class RqVae:
    """A codebook (see `quantiser.Codebook`) with codewords in the latent space of the encoder."""

    recipe: RqVaeRecipe
    network: RqVaeNetwork
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
        return self.codewords.encode(self.latents(check_vectors(vectors, self.width)))

    def decode(self, codes: npt.NDArray[np.integer]) -> Floats:
        return self.scale.undo(_apply(self.network.decoder, self.codewords.decode(codes), self.network.device))

    def last_level_distances(self, vectors: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> Floats:
        return self.codewords.last_level_distances(self.latents(vectors), codes)

    def reassign_collisions(self, vectors: npt.NDArray[np.floating], codes: Codes) -> Codes:
        return reassign_collisions(self, vectors, codes, self.recipe)

    def latents(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """float32 [N, W]: the encoder's latent vectors of item vectors [N, D]."""
        latents = np.empty((len(vectors), self.recipe.width), np.float32)
        for part in chunks(len(vectors)):
            latents[part] = _apply(self.network.encoder, self.scale.apply(vectors[part]), self.network.device)
        return latents

    def save(self, folder: Path) -> None:
        weights = {name: tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()}
        arrays = {"centre": self.scale.centre, "scale": np.array([self.scale.scale])}
        head = {"kind": self.recipe.kind, "recipe": self.recipe.model_dump(mode="json")}
        codebook_files.write(folder, head, {**weights, **arrays})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that `save` wrote, onto a GPU if there is one. Raises ValueError if weights and recipe do not fit."""
        recipe = RqVaeRecipe.model_validate(codebook_files.read_head(folder).get("recipe"))
        arrays = codebook_files.read_arrays(folder, ARRAYS)
        centre, scale = arrays.pop("centre"), float(arrays.pop("scale")[0])
        with torch.device("meta"):  # skips a random initialisation that would be overwritten
            network = RqVaeNetwork(recipe, len(centre))
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise ValueError(f"{folder}: weights and recipe do not fit together: {error}") from None
        network = network.to(best_device()).eval().requires_grad_(False)
        return cls(recipe, network, network.codewords(), VectorScale(centre, scale))


def best_device() -> torch.device:
    """The GPU if there is one that computes in float64, which a balanced assignment needs (MPS does not), else the CPU."""
    return torch.device("cpu" if device() == "mps" else device())


@torch.no_grad()
def _apply(network: nn.Module, rows: Floats, device: torch.device) -> Floats:
    """The network's output for rows [N, …], computed in chunks: float32 numpy [N, …]."""
    parts = [network(torch.from_numpy(rows[part]).to(device)).cpu() for part in chunks(max(len(rows), 1))]
    return torch.cat(parts).numpy()
