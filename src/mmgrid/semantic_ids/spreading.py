"""Parting items that share a code by balanced assignment on the last level: LC-Rec's way, after training.

Items of one code are assigned to the last codes anew, all of them together and balanced over the codes; those that
still meet somebody try again, for some rounds. Nothing keeps an item from moving onto the code of a third one, and
equal vectors cannot be parted at all. So the round with the fewest collisions counts, and whoever still shares a code
in it goes back to its nearest one: `collisions.separate` then finds it a place.

Shapes: N items, B sets of items, S items of a set, D width, L levels, C codes of a level.
"""

import numpy as np
import numpy.typing as npt
import torch

from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.collisions import Distances, full_codes, shared
from mmgrid.semantic_ids.recipes import RqVaeRecipe
from mmgrid.semantic_ids.sinkhorn import balanced

DISTANCES_AT_ONCE = 2**22  # numbers of a batch of sets


def spread(codebook: Distances, vectors: npt.NDArray[np.floating], codes: Codes, recipe: RqVaeRecipe) -> Codes:
    """int32 [N, L]: codes [N, L] of vectors [N, D], of which colliding ones have other last codes; see above."""
    if recipe.sinkhorn_epsilon == 0:
        return codes
    best, current = codes, codes
    fewest = int(shared(codes, codebook.codes).sum())
    for _ in range(recipe.reassign_rounds):
        if fewest == 0:
            break
        moved = _one_round(codebook, vectors, current, recipe)
        if np.array_equal(moved, current):
            break
        current = moved
        colliding = int(shared(current, codebook.codes).sum())
        if colliding < fewest:
            best, fewest = current, colliding
    back = shared(best, codebook.codes)
    settled = best.copy()
    settled[back] = codes[back]
    return settled


def _one_round(codebook: Distances, vectors: npt.NDArray[np.floating], codes: Codes, recipe: RqVaeRecipe) -> Codes:
    """Every set of items that share a code, assigned anew; sets of one size are worked on together."""
    rows = np.flatnonzero(shared(codes, codebook.codes))
    order = rows[np.argsort(full_codes(codes[rows], codebook.codes), kind="stable")]  # sets in one piece each
    _, sizes = np.unique(full_codes(codes[order], codebook.codes), return_counts=True)
    starts = np.cumsum(sizes) - sizes
    moved = codes.copy()
    for size in np.unique(sizes).tolist():
        members = order[starts[sizes == size][:, None] + np.arange(size)]  # [B, S]
        at_once = max(1, DISTANCES_AT_ONCE // (size * codebook.codes))
        for start in range(0, len(members), at_once):
            batch = members[start : start + at_once]
            distances = codebook.last_distances(vectors[batch.ravel()], codes[batch.ravel()])
            stacked = torch.from_numpy(distances).reshape(*batch.shape, codebook.codes)
            chosen = balanced(stacked, recipe.sinkhorn_epsilon, recipe.sinkhorn_iterations)
            moved[batch, -1] = chosen.numpy()
    return moved
