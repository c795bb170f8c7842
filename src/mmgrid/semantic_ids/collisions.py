"""Gives each item a unique code while free codes remain, and counts the collisions that are left.

Among items that share a full code, the one nearest to the decoded code keeps it. The others move, nearest first, to
the nearest free last code under the same first codes. If all of those are taken, they stay and are counted. Codes of
earlier phases are taken and never change, so an item's code depends only on its own phase and the ones before it.

Shapes: N items, M items coded earlier, D width, L levels, C codes of a level, P prefixes (first L - 1 codes).
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
    """items: number of items that share their code. codes: number of codes that several items share."""

    items: int
    codes: int

    def as_json(self) -> dict[str, int]:
        return asdict(self)


class LastLevelDistances(Protocol):
    """What resolving collisions needs of a codebook: C, and squared distances [N, C] of items to all last codes."""

    @property
    def codes(self) -> int: ...

    def last_level_distances(self, vectors: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> Floats: ...


def code_keys(codes: npt.NDArray[np.integer], codes_per_level: int) -> Keys:
    """int64 [N]: each row of codes [N, L] as one number with digits in base C, first level first."""
    keys = np.zeros(len(codes), np.int64)
    for level in range(codes.shape[1]):
        keys = keys * codes_per_level + codes[:, level]
    return keys


def shares_code(codes: npt.NDArray[np.integer], codes_per_level: int) -> npt.NDArray[np.bool_]:
    """bool [N]: whether another item has the same code. No row of codes [N, L] may be -1."""
    _, inverse, counts = np.unique(code_keys(codes, codes_per_level), return_inverse=True, return_counts=True)
    return counts[inverse] > 1


def count_collisions(codes: npt.NDArray[np.integer], codes_per_level: int) -> Collisions:
    """The collisions among codes [N, L], none of which may be -1."""
    _, counts = np.unique(code_keys(codes, codes_per_level), return_counts=True)
    several = counts[counts > 1]
    return Collisions(int(several.sum()), len(several))


def resolve_collisions(
    codebook: LastLevelDistances, vectors: npt.NDArray[np.floating], codes: Codes, taken: Codes | None = None
) -> Codes:
    """int32 [N, L]: the codes after moving colliding items to free codes; only last codes change.

    Args:
        codebook: gives C and the distances.
        vectors: [N, D], the item vectors.
        codes: [N, L], as encoded; not changed in place.
        taken: [M, L], codes of earlier items, which no item may get.
    """
    keys = code_keys(codes, codebook.codes)
    before = np.unique(code_keys(taken, codebook.codes)) if taken is not None else np.empty(0, np.int64)
    rows = _colliding(keys, before)
    distances = _own_distances(codebook, vectors, codes, rows)
    order = np.lexsort((rows, distances, keys[rows]))  # by code, then distance, then row
    rows, distances = rows[order], distances[order]
    keeps = np.append(True, np.diff(keys[rows]) != 0)[: len(rows)] & ~_is_in(keys[rows], before)
    rows, distances = rows[~keeps], distances[~keeps]
    movers = rows[np.lexsort((rows, distances, keys[rows] // codebook.codes))]
    separated = codes.copy()
    _move(codebook, vectors, separated, movers, np.union1d(keys, before))
    return separated


def _colliding(keys: Keys, before: Keys) -> npt.NDArray[np.int64]:
    """Rows whose key also occurs in another row or in `before` (sorted)."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.flatnonzero((counts[inverse] > 1) | _is_in(keys, before))


def _is_in(keys: Keys, table: Keys) -> npt.NDArray[np.bool_]:
    """bool: whether each key occurs in the sorted table."""
    places = np.searchsorted(table, keys)
    found = np.zeros(len(keys), np.bool_)
    within = places < len(table)
    found[within] = table[places[within]] == keys[within]
    return found


def _own_distances(
    codebook: LastLevelDistances, vectors: npt.NDArray[np.floating], codes: Codes, rows: npt.NDArray[np.int64]
) -> Floats:
    """float32 [rows]: squared distance of each of these items to its own code."""
    own = np.empty(len(rows), np.float32)
    for part in chunks(len(rows), MOVERS_AT_ONCE):
        some = rows[part]
        distances = codebook.last_level_distances(vectors[some], codes[some])
        own[part] = np.take_along_axis(distances, codes[some, -1:].astype(np.int64), axis=1)[:, 0]
    return own


def _move(
    codebook: LastLevelDistances,
    vectors: npt.NDArray[np.floating],
    codes: Codes,
    movers: npt.NDArray[np.int64],
    occupied: Keys,
) -> None:
    """Give `movers` free last codes, in place.

    movers: rows, sorted by prefix and by turn within a prefix. occupied: sorted keys of all codes in use.
    """
    n_codes = codebook.codes
    prefixes = code_keys(codes[movers, :-1], n_codes)
    starts = np.flatnonzero(np.append(True, np.diff(prefixes) != 0)[: len(movers)])
    turns = np.arange(len(movers)) - np.repeat(starts, np.diff(np.append(starts, len(movers))))
    free = n_codes - (
        np.searchsorted(occupied, (prefixes + 1) * n_codes) - np.searchsorted(occupied, prefixes * n_codes)
    )
    finds_one = turns < free  # each takes one code: a prefix's first movers find a free one, the rest do not
    movers, prefixes, turns = movers[finds_one], prefixes[finds_one], turns[finds_one]

    start = 0
    while start < len(movers):
        end = int(np.searchsorted(prefixes, prefixes[min(start + MOVERS_AT_ONCE, len(movers)) - 1], side="right"))
        block = slice(start, end)  # whole prefixes: no other block takes their codes
        distances = codebook.last_level_distances(vectors[movers[block]], codes[movers[block]])
        codes[movers[block], -1] = _take_turns(distances, prefixes[block], turns[block], occupied)
        start = end


def _take_turns(
    distances: Floats, prefixes: Keys, turns: npt.NDArray[np.int64], occupied: Keys
) -> npt.NDArray[np.int64]:
    """int64 [N]: for each item the nearest last code, by distances [N, C], that is free at its turn within its prefix.

    The first turns of all prefixes are taken together, then the second turns, and so on.
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
