"""A trie of semantic IDs, and exact constrained beam search over it.

Trie and search import torch, so they are imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgrid.decoding.tree_search import BeamResult, beam_search
    from mmgrid.decoding.trie import ItemTrie

__all__ = ["BeamResult", "ItemTrie", "beam_search"]

_MODULES = {"ItemTrie": "trie", "BeamResult": "tree_search", "beam_search": "tree_search"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
