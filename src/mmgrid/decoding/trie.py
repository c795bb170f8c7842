"""The trie of a catalogue's semantic IDs as flat arrays, so that many beams walk it in one operation.

Items are sorted by their codes. The nodes at depth d are the distinct prefixes of d codes in that order, so the
children of a node are contiguous: a trie is two arrays per level and no pointers (compressed sparse rows).

Shape letters: N items, L levels, C codes of a level, n_d nodes of depth d (n_0 = 1: the root; n_L leaves).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes at one depth d ≥ 1, as children of the nodes at depth d - 1.

    codes: int32 [n_d], each node's last code. first: int32 or int64 [n_{d-1} + 1]; the children of node i at the depth
    before are first[i]:first[i + 1]. parents: [n_d], same type as `first`. fanout: maximum children of one node.
    """

    codes: Tensor
    first: Tensor
    parents: Tensor
    fanout: int

    def to(self, device: torch.device | str) -> Level:
        return replace(self, codes=self.codes.to(device), first=self.first.to(device), parents=self.parents.to(device))


class ItemTrie:
    """Semantic IDs of the items that may be recommended.

    Args:
        codes: int [N, L], the code of each item at each level, from 0; an item without a code has -1 at all levels and
            is left out.
        level_tokens: int [L, C], the token id of each code.
        items: int [M] item rows that may be recommended; None: all items with a code.

    Attributes:
        levels: the L levels, from the root downwards.
        first_item: [n_L + 1]; the items of leaf i are `items[first_item[i]:first_item[i + 1]]`.
        items: int64 [items in the trie], sorted by code, then row.
        leaves: [N], each item's leaf; -1 for an item that is not in the trie.
        most_items: maximum number of items with one code.

    Raises ValueError if the shapes do not fit together or a code has no token.
    """

    def __init__(self, codes: np.ndarray, level_tokens: np.ndarray, items: np.ndarray | None = None):
        codes, level_tokens = np.asarray(codes), np.asarray(level_tokens)
        _check(codes, level_tokens)
        rows = _rows(codes, items)
        order, begins = _sorted(codes, rows, level_tokens.shape[1])
        index = np.int32 if len(codes) < 2**31 - 1 else np.int64
        self.n_items = len(codes)
        self.level_tokens = torch.as_tensor(level_tokens.astype(np.int64))
        self.levels: tuple[Level, ...] = ()
        parents = np.zeros(1, index)  # for each node at this depth, the index of its first item
        for depth in range(codes.shape[1]):
            starts = np.flatnonzero(begins <= depth).astype(index)
            first = np.searchsorted(starts, np.append(parents, len(order))).astype(index)
            level_codes = codes[order[starts], depth].astype(np.int32)
            sizes = np.diff(first)
            self.levels += (
                Level(
                    torch.from_numpy(level_codes),
                    torch.from_numpy(first),
                    torch.from_numpy(np.repeat(np.arange(len(sizes), dtype=index), sizes)),
                    int(sizes.max(initial=0)),
                ),
            )
            parents = starts
        sizes = np.diff(np.append(parents, len(order)))
        leaves = np.full(len(codes), -1, index)
        leaves[order] = np.repeat(np.arange(len(parents), dtype=index), sizes)
        self.first_item = torch.from_numpy(np.append(parents, len(order)).astype(index))
        self.items = torch.from_numpy(order.astype(np.int64))
        self.leaves = torch.from_numpy(leaves)
        self.most_items = int(sizes.max(initial=0))

    def __len__(self) -> int:
        """Number of items in the trie."""
        return len(self.items)

    @property
    def n_leaves(self) -> int:
        """Number of distinct semantic IDs."""
        return len(self.first_item) - 1

    @property
    def collisions(self) -> int:
        """Number of items beyond the first of each semantic ID."""
        return len(self) - self.n_leaves

    def to(self, device: torch.device | str) -> ItemTrie:
        """The same trie on a device."""
        moved = object.__new__(ItemTrie)
        moved.__dict__.update(self.__dict__)
        moved.levels = tuple(level.to(device) for level in self.levels)
        for name in ("level_tokens", "first_item", "items", "leaves"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved


def _check(codes: np.ndarray, level_tokens: np.ndarray) -> None:
    if codes.ndim != 2 or level_tokens.ndim != 2 or codes.shape[1] != level_tokens.shape[0]:
        raise ValueError(
            f"codes {list(codes.shape)} and level_tokens {list(level_tokens.shape)}: expected [items, levels] and "
            "[levels, codes per level] with the same number of levels"
        )
    if not (np.issubdtype(codes.dtype, np.integer) and np.issubdtype(level_tokens.dtype, np.integer)):
        raise ValueError(f"codes {codes.dtype} and level_tokens {level_tokens.dtype}: expected whole numbers")
    if codes.size and codes.max() >= level_tokens.shape[1]:
        item = int(np.argmax(codes.max(axis=1)))
        raise ValueError(
            f"item {item} has the codes {codes[item].tolist()}, but a level has {level_tokens.shape[1]} codes, from 0"
        )


def _rows(codes: np.ndarray, items: np.ndarray | None) -> np.ndarray:
    """The item rows that the trie holds: int64, ascending."""
    lacking = (codes < 0).any(axis=1)
    partly = lacking & (codes >= 0).any(axis=1)
    if partly.any():
        item = int(np.argmax(partly))
        raise ValueError(
            f"item {item} has an incomplete code, {codes[item].tolist()}; an item without a code has -1 at all levels"
        )
    chosen = ~lacking
    if items is not None:
        items = np.asarray(items, np.int64)
        outside = items[(items < 0) | (items >= len(codes))]
        if outside.size:
            raise ValueError(f"item row {outside[0]}: out of range; there are codes for {len(codes)} items, from 0")
        wanted = np.zeros(len(codes), bool)
        wanted[items] = True
        chosen &= wanted
    rows = np.flatnonzero(chosen)
    if not rows.size:
        raise ValueError("no item has a code; there is nothing to recommend")
    return rows


def _sorted(codes: np.ndarray, rows: np.ndarray, n_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows sorted by code, and for each the first level at which it differs from the row before (0 for the first)."""
    n_levels = codes.shape[1]
    bits = max(int(n_codes - 1).bit_length(), 1)
    if bits * n_levels <= 64:  # a code fits into one number: one sort, little memory
        key = np.zeros(len(rows), np.uint32 if bits * n_levels <= 32 else np.uint64)
        for level in range(n_levels):
            key <<= key.dtype.type(bits)
            key |= codes[rows, level].astype(key.dtype)
        order = np.argsort(key, kind="stable")
        key = key[order]
        changed = key[1:] ^ key[:-1]
        begins = np.full(len(rows), n_levels, np.int8)
        for level in reversed(range(n_levels)):
            begins[1:][changed >> key.dtype.type(bits * (n_levels - 1 - level)) > 0] = level
    else:
        order = np.lexsort([codes[rows, level] for level in reversed(range(n_levels))])
        differ = codes[rows[order[1:]]] != codes[rows[order[:-1]]]
        begins = np.full(len(rows), n_levels, np.int64)
        begins[1:] = np.where(differ.any(axis=1), differ.argmax(axis=1), n_levels)
    begins[0] = 0
    return rows[order], begins
