"""Training of the RQ-VAE: reconstruction loss, codebook loss and commitment loss.

    L  =  ‖x − x̂‖² / D  +  w · mean over levels of ( ‖sg(r) − e‖² + β ‖r − sg(e)‖² ) / W

where r is the residual of the levels before, e its codeword and sg stops the gradient (TIGER, Rajput et al., 2023, eq.
of section 3.1; means instead of sums as in LC-Rec). Codewords are initialised to k-means centres, which keeps most of
them in use. On the last level a batch is assigned to the codes in a balanced way (`sinkhorn`), which keeps items apart
(LC-Rec, Zheng et al., 2024).

Shapes: N items, B items of a batch, D width of an item vector, W width of the latent vector, L levels, C codes.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mmgrid.seeds import derive, generator
from mmgrid.semantic_ids.codewords import nearest_codewords
from mmgrid.semantic_ids.item_vectors import Floats, VectorScale, check_vectors
from mmgrid.semantic_ids.recipes import RqVaeRecipe
from mmgrid.semantic_ids.residual_kmeans import kmeans_words
from mmgrid.semantic_ids.rqvae import RqVae, RqVaeNetwork, best_device
from mmgrid.semantic_ids.sinkhorn import balanced_assignment

CHECK_EVERY = 100  # steps between checks for a finite loss; each check waits for the GPU


def fit(vectors: npt.NDArray[np.floating], recipe: RqVaeRecipe, seed: int) -> RqVae:
    """See `quantiser.fit_codebook`.

    Raises:
        ValueError: the vectors are unusable, or the loss is no longer finite.
    """
    vectors = check_vectors(vectors)
    scale = VectorScale.of(vectors)
    device = best_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, "rqvae"))  # initial weights, and dropout
        network = RqVaeNetwork(recipe, vectors.shape[1]).to(device)
        _initialise_words(network, scale, vectors, recipe, seed)
        _train(network, scale, vectors, recipe, seed)
    network.eval().requires_grad_(False)
    return RqVae(recipe, network, network.codewords(), scale)


def quantise(latents: Tensor, words: Tensor, recipe: RqVaeRecipe) -> tuple[Tensor, Tensor]:
    """Quantised latents [B, W], with a straight-through gradient, and the mean codebook and commitment loss.

    Args:
        latents: [B, W].
        words: codewords [L, C, W].
    """
    residual = latents
    total = torch.zeros_like(latents)
    losses = []
    for level, own in enumerate(words):
        balance = level == len(words) - 1 and recipe.sinkhorn_epsilon > 0
        chosen = functional.embedding(_assign(residual.detach(), own.detach(), recipe, balance), own)
        word_loss = functional.mse_loss(chosen, residual.detach())
        commitment = functional.mse_loss(residual, chosen.detach())
        losses.append(word_loss + recipe.beta * commitment)
        total = total + chosen.detach()
        residual = residual - chosen.detach()
    return latents + (total - latents).detach(), torch.stack(losses).mean()


def _assign(residual: Tensor, words: Tensor, recipe: RqVaeRecipe, balance: bool) -> Tensor:
    """int64 [B]: the code of each residual [B, W] among codewords [C, W]."""
    squares = residual.square().sum(1, keepdim=True) + words.square().sum(1) - 2 * residual @ words.T
    if balance:
        return balanced_assignment(squares, recipe.sinkhorn_epsilon, recipe.sinkhorn_iterations)
    return squares.argmin(1)


def _train(
    network: RqVaeNetwork, scale: VectorScale, vectors: npt.NDArray[np.floating], recipe: RqVaeRecipe, seed: int
) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    network.train()
    batches = _batches(len(vectors), recipe.batch_size, seed)
    for step in range(1, recipe.steps + 1):
        rows = next(batches)
        given = torch.from_numpy(scale.apply(vectors[rows])).to(network.device)
        quantised, level_loss = quantise(network.encoder(given), network.words, recipe)
        loss = functional.mse_loss(network.decoder(quantised), given) + recipe.quantisation_weight * level_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step % CHECK_EVERY == 0 or step == recipe.steps) and not loss.isfinite():
            raise ValueError(
                f"RQ-VAE: the loss is {loss.item()} at step {step} of {recipe.steps}: "
                f"lower learning_rate (now {recipe.learning_rate:g})"
            )


def _batches(n: int, batch_size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Item rows of an endless sequence of batches. Each epoch has its own order and drops its incomplete last batch.

    If there are fewer items than `batch_size`, each batch holds all of them.
    """
    size = min(batch_size, n)
    epoch = 0
    while True:
        order = generator(seed, "rqvae batches", epoch).permutation(n)
        for start in range(0, n - size + 1, size):
            yield np.sort(order[start : start + size])  # sorted: a memory-mapped table is read forwards
        epoch += 1


@torch.no_grad()
def _initialise_words(
    network: RqVaeNetwork, scale: VectorScale, vectors: npt.NDArray[np.floating], recipe: RqVaeRecipe, seed: int
) -> None:
    """Initialise the codewords to k-means centres of the untrained encoder's latents, for a sample of the items."""
    draw = generator(seed, "rqvae start")
    rows = np.sort(draw.permutation(len(vectors))[: recipe.start_items])
    network.eval()
    given = torch.from_numpy(scale.apply(vectors[rows])).to(network.device)
    residual = network.encoder(given).cpu().numpy()
    for level in range(recipe.levels):
        found = kmeans_words(
            residual,
            recipe.codes,
            iterations=recipe.start_iterations,
            mini_batch_size=None,
            seed=derive(seed, "rqvae start", level),
        )
        words = _fill_with_noise(found, residual, recipe.codes, draw)
        network.words[level] = torch.from_numpy(words)
        residual = residual - words[nearest_codewords(residual, words)]


def _fill_with_noise(found: Floats, residual: Floats, codes: int, draw: np.random.Generator) -> Floats:
    """float32 [C, W]: the codewords found, filled up with noise of the residuals' standard deviation."""
    spread = float(residual.std()) or 1e-3
    noise = draw.normal(0.0, spread, (codes - len(found), residual.shape[1])).astype(np.float32)
    return np.concatenate([found, noise])
