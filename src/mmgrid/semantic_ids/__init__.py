"""Semantic IDs: quantisers turn item vectors into codes, and colliding items get distinct codes.

`fit_codebook` makes a codebook, `assign_codes` gives the items their codes. This face imports no torch.
"""

from mmgrid.semantic_ids.item_codes import ItemCodes, assign_codes
from mmgrid.semantic_ids.quantiser import Codebook, fit_codebook, load_codebook
from mmgrid.semantic_ids.recipes import QuantiserRecipe, ResidualKMeansRecipe, RqVaeRecipe

__all__ = [
    "Codebook",
    "ItemCodes",
    "QuantiserRecipe",
    "ResidualKMeansRecipe",
    "RqVaeRecipe",
    "assign_codes",
    "fit_codebook",
    "load_codebook",
]
