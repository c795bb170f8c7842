"""A code of its own for every item, as far as there are codes, and the count of what is left.

Of the items that share a full code the one nearest to what the code stands for keeps it. The others go, nearest
first, to the nearest free last code under the same first codes; where all of those are taken they stay, and are
counted. Codes that were given before (items of earlier phases) are taken and never move: an item's code
depends on its own phase and those before it, on nothing that comes later.

Shapes: N items, M items with codes from before, D width, L levels, C codes of a level, P prefixes (first L - 1 codes).
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.item_vectors import Floats, chunks

MOVERS_AT_ONCE = 16_384

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Collisions:
    """items: that share their code with at least one other. codes: that more than one item has."""

    items: int
    codes: int

    def as_json(self) -> dict[str, int]:
        return asdict(self)


class Distances(Protocol):
    """What moving items asks of a codebook: its C, and squared distances [N, C] of items to all last codes."""

    @property
    def codes(self) -> int: ...

    def last_distances(self, vectors: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> Floats: ...


def full_codes(codes: npt.NDArray[np.integer], codes_per_level: int) -> Keys:
    """int64 [N]: each row of codes [N, L] as one number, that of its first L - 1 codes times C plus the last."""
    keys = np.zeros(len(codes), np.int64)
    for level in range(codes.shape[1]):
        keys = keys * codes_per_level + codes[:, level]
    return keys


def shared(codes: npt.NDArray[np.integer], codes_per_level: int) -> npt.NDArray[np.bool_]:
    """bool [N]: whether another item has the same code, for codes [N, L] without rows of -1."""
    _, inverse, counts = np.unique(full_codes(codes, codes_per_level), return_inverse=True, return_counts=True)
    return counts[inverse] > 1


def count(codes: npt.NDArray[np.integer], codes_per_level: int) -> Collisions:
    """The collisions among codes [N, L] without rows of -1."""
    _, counts = np.unique(full_codes(codes, codes_per_level), return_counts=True)
    several = counts[counts > 1]
    return Collisions(int(several.sum()), len(several))


def separate(codebook: Distances, vectors: npt.NDArray[np.floating], codes: Codes, taken: Codes | None = None) -> Codes:
    """int32 [N, L]: the codes after moving what can be moved; only last codes change.

    Args:
        codebook: for its C and its distances.
        vectors: [N, D], the items'.
        codes: [N, L], as encoded. They are not changed in place.
        taken: [M, L], codes of items from before; they may not be had again.
    """
    keys = full_codes(codes, codebook.codes)
    before = np.unique(full_codes(taken, codebook.codes)) if taken is not None else np.empty(0, np.int64)
    rows = _colliding(keys, before)
    distances = _own_distances(codebook, vectors, codes, rows)
    order = np.lexsort((rows, distances, keys[rows]))  # by code, then nearest first, then row
    rows, distances = rows[order], distances[order]
    keeps = np.append(True, np.diff(keys[rows]) != 0)[: len(rows)] & ~_is_in(keys[rows], before)
    rows, distances = rows[~keeps], distances[~keeps]
    movers = rows[np.lexsort((rows, distances, keys[rows] // codebook.codes))]
    separated = codes.copy()
    _move(codebook, vectors, separated, movers, np.union1d(keys, before))
    return separated


def _colliding(keys: Keys, before: Keys) -> npt.NDArray[np.int64]:
    """Rows whose key another row, or a key of `before` (sorted), has, too."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.flatnonzero((counts[inverse] > 1) | _is_in(keys, before))


def _is_in(keys: Keys, table: Keys) -> npt.NDArray[np.bool_]:
    """Whether each key is in a sorted table."""
    places = np.searchsorted(table, keys)
    found = np.zeros(len(keys), np.bool_)
    within = places < len(table)
    found[within] = table[places[within]] == keys[within]
    return found


def _own_distances(
    codebook: Distances, vectors: npt.NDArray[np.floating], codes: Codes, rows: npt.NDArray[np.int64]
) -> Floats:
    """float32 [rows]: squared distance of each of these items to its own code."""
    own = np.empty(len(rows), np.float32)
    for part in chunks(len(rows), MOVERS_AT_ONCE):
        some = rows[part]
        distances = codebook.last_distances(vectors[some], codes[some])
        own[part] = np.take_along_axis(distances, codes[some, -1:].astype(np.int64), axis=1)[:, 0]
    return own


def _move(
    codebook: Distances,
    vectors: npt.NDArray[np.floating],
    codes: Codes,
    movers: npt.NDArray[np.int64],
    occupied: Keys,
) -> None:
    """Give `movers` (rows, by prefix, in the order of their turns) free last codes, in `codes` itself.

    occupied: sorted, all full codes that somebody has.
    """
    n_codes = codebook.codes
    prefixes = full_codes(codes[movers, :-1], n_codes)
    starts = np.flatnonzero(np.append(True, np.diff(prefixes) != 0)[: len(movers)])
    turns = np.arange(len(movers)) - np.repeat(starts, np.diff(np.append(starts, len(movers))))
    free = n_codes - (
        np.searchsorted(occupied, (prefixes + 1) * n_codes) - np.searchsorted(occupied, prefixes * n_codes)
    )
    finds_one = turns < free  # each takes one code, so a prefix's first movers find a place and the rest do not
    movers, prefixes, turns = movers[finds_one], prefixes[finds_one], turns[finds_one]

    start = 0
    while start < len(movers):
        end = int(np.searchsorted(prefixes, prefixes[min(start + MOVERS_AT_ONCE, len(movers)) - 1], side="right"))
        block = slice(start, end)  # whole prefixes: their codes are not taken by others
        distances = codebook.last_distances(vectors[movers[block]], codes[movers[block]])
        codes[movers[block], -1] = _take_turns(distances, prefixes[block], turns[block], occupied)
        start = end


def _take_turns(
    distances: Floats, prefixes: Keys, turns: npt.NDArray[np.int64], occupied: Keys
) -> npt.NDArray[np.int64]:
    """int64 [N]: the nearest last code (of distances [N, C]) that is free when an item's turn in its prefix comes.

    All prefixes have their first turn at once, then their second, and so on.
    """
    n_codes = distances.shape[1]
    names, place = np.unique(prefixes, return_inverse=True)
    is_taken = np.zeros((len(names), n_codes), np.bool_)
    low, high = np.searchsorted(occupied, names * n_codes), np.searchsorted(occupied, (names + 1) * n_codes)
    n_taken = high - low
    within = np.arange(n_taken.sum()) - np.repeat(np.cumsum(n_taken) - n_taken, n_taken)
    is_taken[np.repeat(np.arange(len(names)), n_taken), occupied[np.repeat(low, n_taken) + within] % n_codes] = True

    chosen = np.empty(len(turns), np.int64)
    by_turn = np.argsort(turns, kind="stable")
    bounds = np.searchsorted(turns[by_turn], np.arange(turns.max(initial=-1) + 2))
    for first, last in pairwise(bounds.tolist()):
        rows = by_turn[first:last]
        open_distances = np.where(is_taken[place[rows]], np.inf, distances[rows])
        chosen[rows] = open_distances.argmin(axis=1)
        is_taken[place[rows], chosen[rows]] = True
    return chosen
