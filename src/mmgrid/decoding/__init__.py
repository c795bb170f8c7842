"""Codes as a trie, and exact constrained beam search over it.

The trie and the search import torch, so they are imported when they are first asked for.
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
