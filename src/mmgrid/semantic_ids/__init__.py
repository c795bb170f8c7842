"""Item vectors → semantic IDs → trie → constrained beam search.

The search and the trie are imported when they are first asked for: they import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgrid.semantic_ids.tree_search import BeamResult, beam_search
    from mmgrid.semantic_ids.trie import ItemTrie

__all__ = ["BeamResult", "ItemTrie", "beam_search"]

_PLACES = {"ItemTrie": "trie", "BeamResult": "tree_search", "beam_search": "tree_search"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
