"""Training of the RQ-VAE: reconstruction, and words and latent vectors that move towards each other.

    L  =  ‖x − x̂‖² / D  +  w · mean over levels of ( ‖sg(r) − e‖² + β ‖r − sg(e)‖² ) / W

where r is what the levels before leave over, e its word and sg stops the gradient (TIGER, Rajput et al., 2023, eq. of
section 3.1; means instead of sums as in LC-Rec). The words start as k-means centres, which keeps most of them in use.
On the last level a batch is assigned in balance over the codes (`sinkhorn`), which keeps items apart (LC-Rec, Zheng et
al., 2024).

Shapes: N items, B items of a batch, D width of an item vector, W width of the latent vector, L levels, C codes.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mmgrid.seeds import derive, generator
from mmgrid.semantic_ids.codewords import nearest_words
from mmgrid.semantic_ids.item_vectors import Floats, VectorScale, checked
from mmgrid.semantic_ids.recipes import RqVaeRecipe
from mmgrid.semantic_ids.residual_kmeans import level_words
from mmgrid.semantic_ids.rqvae import Network, RqVae, best_device
from mmgrid.semantic_ids.sinkhorn import balanced

LOOK_EVERY = 100  # steps between looks at whether the loss is still a number; each look waits for the GPU


def fit(vectors: npt.NDArray[np.floating], recipe: RqVaeRecipe, seed: int) -> RqVae:
    """See `quantiser.fit`.

    Raises:
        ValueError: the vectors are unusable, or the loss is no longer a number.
    """
    vectors = checked(vectors)
    scale = VectorScale.of(vectors)
    device = best_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, "rqvae"))  # first weights, and dropout
        network = Network(recipe, vectors.shape[1]).to(device)
        _start_words(network, scale, vectors, recipe, seed)
        _train(network, scale, vectors, recipe, seed)
    network.eval().requires_grad_(False)
    return RqVae(recipe, network, network.codewords(), scale)


def quantise(latents: Tensor, words: Tensor, recipe: RqVaeRecipe) -> tuple[Tensor, Tensor]:
    """The sum of the words of latents [B, W], with a straight-through gradient: [B, W]; and the loss of the levels.

    Args:
        words: [L, C, W].
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
    """int64 [B]: the code of each residual [B, W] among words [C, W]."""
    squares = residual.square().sum(1, keepdim=True) + words.square().sum(1) - 2 * residual @ words.T
    if balance:
        return balanced(squares, recipe.sinkhorn_epsilon, recipe.sinkhorn_iterations)
    return squares.argmin(1)


def _train(
    network: Network, scale: VectorScale, vectors: npt.NDArray[np.floating], recipe: RqVaeRecipe, seed: int
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
        if (step % LOOK_EVERY == 0 or step == recipe.steps) and not loss.isfinite():
            raise ValueError(
                f"RQ-VAE: the loss is {loss.item()} at step {step} of {recipe.steps}: "
                f"lower learning_rate (now {recipe.learning_rate:g})"
            )


def _batches(n: int, batch_size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of batches without end: each epoch in an order of its own, its last rows that fill no batch left out.

    Fewer items than a batch are all of them a batch.
    """
    size = min(batch_size, n)
    epoch = 0
    while True:
        order = generator(seed, "rqvae batches", epoch).permutation(n)
        for start in range(0, n - size + 1, size):
            yield np.sort(order[start : start + size])  # a table on disk is read forwards
        epoch += 1


@torch.no_grad()
def _start_words(
    network: Network, scale: VectorScale, vectors: npt.NDArray[np.floating], recipe: RqVaeRecipe, seed: int
) -> None:
    """Set the words to the k-means centres of what the untrained encoder makes of (a sample of) the items."""
    draw = generator(seed, "rqvae start")
    rows = np.sort(draw.permutation(len(vectors))[: recipe.start_items])
    network.eval()
    given = torch.from_numpy(scale.apply(vectors[rows])).to(network.device)
    residual = network.encoder(given).cpu().numpy()
    for level in range(recipe.levels):
        found = level_words(
            residual,
            recipe.codes,
            iterations=recipe.start_iterations,
            mini_batch_size=None,
            seed=derive(seed, "rqvae start", level),
        )
        words = _filled(found, residual, recipe.codes, draw)
        network.words[level] = torch.from_numpy(words)
        residual = residual - words[nearest_words(residual, words)]


def _filled(found: Floats, residual: Floats, codes: int, draw: np.random.Generator) -> Floats:
    """float32 [C, W]: the words found, and where those are too few, noise as large as the residuals around zero."""
    spread = float(residual.std()) or 1e-3
    noise = draw.normal(0.0, spread, (codes - len(found), residual.shape[1])).astype(np.float32)
    return np.concatenate([found, noise])
