"""A trie of semantic IDs, and exact constrained beam search over it.

Trie and search import torch, so they are imported on first use.
"""

from typing import TYPE_CHECKING

from mmgrid.later import later

if TYPE_CHECKING:
    from mmgrid.decoding.tree_search import BeamResult, beam_search
    from mmgrid.decoding.trie import ItemTrie

__all__ = ["BeamResult", "ItemTrie", "beam_search"]

_MODULES = {"ItemTrie": "trie", "BeamResult": "tree_search", "beam_search": "tree_search"}

__getattr__ = later(__name__, _MODULES)
