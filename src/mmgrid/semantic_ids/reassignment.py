"""Reassigns colliding items by balanced assignment on the last level, as LC-Rec does after training.

The items of one code are assigned to last codes again, together and balanced over the codes; items that still collide
are reassigned in further rounds. An item may move onto the code of a third one, and equal vectors cannot be separated,
so the round with the fewest collisions is kept. Items that still share a code in that round return to their nearest
code; `collisions.resolve_collisions` then finds them a free one.

Shapes: N items, B sets of items, S items of a set, D width, L levels, C codes of a level.
"""

import numpy as np
import numpy.typing as npt
import torch

from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.collisions import LastLevelDistances, code_keys, shares_code
from mmgrid.semantic_ids.recipes import RqVaeRecipe
from mmgrid.semantic_ids.sinkhorn import balanced_assignment

DISTANCES_AT_ONCE = 2**22  # distances computed for one batch of sets


def reassign_collisions(
    codebook: LastLevelDistances, vectors: npt.NDArray[np.floating], codes: Codes, recipe: RqVaeRecipe
) -> Codes:
    """int32 [N, L]: codes [N, L] of vectors [N, D], with other last codes for colliding items."""
    if recipe.sinkhorn_epsilon == 0:
        return codes
    best, current = codes, codes
    fewest = int(shares_code(codes, codebook.codes).sum())
    for _ in range(recipe.reassign_rounds):
        if fewest == 0:
            break
        moved = _one_round(codebook, vectors, current, recipe)
        if np.array_equal(moved, current):
            break
        current = moved
        colliding = int(shares_code(current, codebook.codes).sum())
        if colliding < fewest:
            best, fewest = current, colliding
    back = shares_code(best, codebook.codes)
    settled = best.copy()
    settled[back] = codes[back]
    return settled


def _one_round(
    codebook: LastLevelDistances, vectors: npt.NDArray[np.floating], codes: Codes, recipe: RqVaeRecipe
) -> Codes:
    """One reassignment of every set of items that share a code; sets of one size are processed together."""
    rows = np.flatnonzero(shares_code(codes, codebook.codes))
    order = rows[np.argsort(code_keys(codes[rows], codebook.codes), kind="stable")]  # makes each set contiguous
    _, sizes = np.unique(code_keys(codes[order], codebook.codes), return_counts=True)
    starts = np.cumsum(sizes) - sizes
    moved = codes.copy()
    for size in np.unique(sizes).tolist():
        members = order[starts[sizes == size][:, None] + np.arange(size)]  # [B, S]
        at_once = max(1, DISTANCES_AT_ONCE // (size * codebook.codes))
        for start in range(0, len(members), at_once):
            batch = members[start : start + at_once]
            distances = codebook.last_level_distances(vectors[batch.ravel()], codes[batch.ravel()])
            stacked = torch.from_numpy(distances).reshape(*batch.shape, codebook.codes)
            chosen = balanced_assignment(stacked, recipe.sinkhorn_epsilon, recipe.sinkhorn_iterations)
            moved[batch, -1] = chosen.numpy()
    return moved
