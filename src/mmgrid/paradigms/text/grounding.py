"""Grounding: ranks the catalogue by distance to the titles that a model generated (BIGRec, Bao et al. 2023).

An item's distance is the squared L2 distance of its title's vector to the nearest title generated for the user. A
generated title that equals a catalogue title is at distance exactly 0 from its items, regardless of rounding; several
such titles rank in the order in which they were generated. Items with one title have one distance, and are ordered by
tie keys that depend on the user.

Shape letters: U users, B users of a block, T titles of a block, N items, G distinct titles of items, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mmgrid.data import Histories, Items, LeakageError, format_time
from mmgrid.decoding.tie_order import tie_keys
from mmgrid.evaluation import NOT_RANKED, target_ranks
from mmgrid.paradigms.shared.prompts import one_line

DAY_MS = 24 * 60 * 60 * 1000
_BLOCK_ELEMENTS = 1 << 22  # distances [T, G] at once: 32 MiB
_PART_ELEMENTS = 1 << 20  # of item vectors in double precision at once

Titles = Sequence[Sequence[str]]  # the generated titles of each user


@dataclass(frozen=True, eq=False)
class Grounding:
    """The vectors of all items' titles, and a function that embeds other titles in the same space.

    vectors: float32 [N, D]. embed: texts → float32 [texts, D]. seed: of the order among equal distances.
    """

    vectors: np.ndarray
    embed: Callable[[Sequence[str]], np.ndarray]
    seed: int = 0
    embeds_empty: ClassVar[bool] = False  # whether the empty text is embedded, instead of having the zero vector

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not np.isfinite(self.vectors).all():
            raise ValueError(
                f"title vectors {self.vectors.shape}: expected [items, width] without NaN or infinity; "
                "the model that embeds the titles is broken"
            )

    @classmethod
    def centred(
        cls, vectors: np.ndarray, embed: Callable[[Sequence[str]], np.ndarray], candidates: np.ndarray
    ) -> Grounding:
        """A grounding with the mean over the `candidates` (item rows) subtracted and all vectors scaled to length 1.

        Hidden states share one dominant direction; with it, all titles would look nearly the same.
        """
        centre = vectors[candidates].mean(axis=0)
        return cls(_unit(vectors - centre), lambda texts: _unit(embed(texts) - centre))

    def name(self, title: str) -> str:
        """The text by which an item's title is compared with generated titles; items with equal names share a vector."""
        return one_line(title)

    def texts(self, titles: Sequence[str]) -> list[str]:
        """The texts of a user's generated titles, distinct and at least one; the empty text has the zero vector."""
        return list(dict.fromkeys(filter(None, map(one_line, titles)))) or [""]

    def ranks(
        self,
        titles: Titles,
        histories: Histories,
        items: Items,
        targets: np.ndarray,
        factor: np.ndarray | None = None,
        *,
        by_title: bool = False,
    ) -> np.ndarray:
        """Full rank of each target, from 0, among the candidates outside the user's history: int64 [U].

        A target that is no candidate, or is in the history, is NOT_RANKED.

        Args:
            factor: float32 [N], divides the distances; items with factor 0 are left out.
            by_title: no item with the target's title comes before it.
        """
        name_of = _groups(items, self.name)[1] if by_title else None
        ranks = np.full(len(targets), NOT_RANKED, np.int64)
        for start, distances, nearest in self._blocks(titles, histories, items, factor):
            block = slice(start, start + len(distances))
            target = np.asarray(targets[block], np.int64)[:, None]
            own = np.take_along_axis(distances, target, axis=1)
            earlier = self._tie_order(histories.users[block], target, nearest, name_of)
            ranks[block] = target_ranks(-distances, -own, earlier)
        return ranks

    def top(
        self, titles: Titles, histories: Histories, items: Items, k: int, factor: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest candidates outside each history: item rows int64 [U, k], scores float32 [U, k].

        A score is the negative distance. Rows with fewer than k candidates are padded with -1 and -inf.
        """
        best = np.full((len(histories), k), -1, np.int64)
        scores = np.full((len(histories), k), -np.inf, np.float32)
        for start, distances, nearest in self._blocks(titles, histories, items, factor):
            last = min(k, distances.shape[1]) - 1
            limit = np.partition(distances, last, axis=1)[:, last, None]
            user, item = np.nonzero((distances <= limit) & np.isfinite(distances))
            distance = distances[user, item]
            keys = tie_keys(self.seed, histories.users[start + user], item)
            order = np.lexsort((item, keys, nearest[user, item], distance, user))
            user, item, distance = user[order], item[order], distance[order]
            place = np.arange(len(user)) - np.searchsorted(user, user)
            kept = place < k
            best[start + user[kept], place[kept]] = item[kept]
            scores[start + user[kept], place[kept]] = -distance[kept]
        return best, scores

    def _tie_order(
        self, users: np.ndarray, target: np.ndarray, nearest: np.ndarray, name_of: np.ndarray | None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Which items at the target's distance come before it: by the position of the nearest title, then by tie keys.

        Args:
            users: int64 [B], rows of the corpus.
            target: int64 [B, 1].
            nearest: int64 [B, N], the position of each item's nearest title among the user's titles.
            name_of: int64 [N]; items with the target's number do not come before it. None: they may.
        """
        own_nearest = np.take_along_axis(nearest, target, axis=1)

        def earlier(equal: np.ndarray) -> np.ndarray:
            ahead = equal & (nearest < own_nearest)
            user, item = np.nonzero(equal & (nearest == own_nearest))
            own_item = target[user, 0]
            keys, own_keys = (tie_keys(self.seed, users[user], items) for items in (item, own_item))
            ahead[user, item] = (keys < own_keys) | ((keys == own_keys) & (item < own_item))
            return ahead if name_of is None else ahead & (name_of != name_of[target])

        return earlier

    def _blocks(
        self, titles: Titles, histories: Histories, items: Items, factor: np.ndarray | None
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yields per block: the first user; distances float32 [B, N], infinite where an item may not be recommended; and
        the position of the nearest title among the user's titles, int64 [B, N]."""
        self._check(titles, histories, items, factor)
        rows, group_of = _groups(items, self.name)
        generated = _GeneratedTitles.of(titles, self, [self.name(items.titles[int(row)]) for row in rows])
        no_candidate = ~items.is_candidate()
        most = max(map(len, titles), default=1) or 1
        at_once = max(1, _BLOCK_ELEMENTS // (max(most, 2) * max(len(items), 1)))
        for start in range(0, len(histories), at_once):
            stop = min(start + at_once, len(histories))
            of_groups, nearest = generated.nearest(start, stop, self.vectors, rows)
            distances = of_groups.astype(np.float32)[:, group_of]
            if factor is not None:
                distances = np.divide(distances, factor, out=np.full_like(distances, np.inf), where=factor > 0)
            distances[:, no_candidate] = np.inf
            offsets = histories.offsets[start : stop + 1]
            owner = np.repeat(np.arange(stop - start), np.diff(offsets))
            distances[owner, histories.items[offsets[0] : offsets[-1]]] = np.inf
            yield start, distances, nearest[:, group_of]

    def _check(self, titles: Titles, histories: Histories, items: Items, factor: np.ndarray | None) -> None:
        if len(self.vectors) != len(items):
            raise ValueError(f"{len(self.vectors)} title vectors for {len(items)} items; are they of another domain?")
        if len(titles) != len(histories):
            raise ValueError(f"titles of {len(titles)} users for {len(histories)} histories")
        if factor is not None and (factor.shape != (len(items),) or not (factor >= 0).all()):
            raise ValueError(f"popularity factor {factor.shape}: expected {len(items)} numbers, 0 or above")


@dataclass(frozen=True, eq=False)
class _GeneratedTitles:
    """The distinct generated titles: user u has those at `places[offsets[u]:offsets[u + 1]]`, in generated order."""

    vectors: np.ndarray  # float64 [titles, D]
    groups: np.ndarray  # int64 [titles]: the equal title among the catalogue's distinct titles, or -1
    offsets: np.ndarray  # int64 [U + 1]
    places: np.ndarray  # int64

    @classmethod
    def of(cls, titles: Titles, grounding: Grounding, known: list[str]) -> _GeneratedTitles:
        of_users = [grounding.texts(own) for own in titles]
        texts = sorted({text for own in of_users for text in own})
        group = {text: number for number, text in enumerate(known)}
        groups = np.array([group.get(text, -1) for text in texts], np.int64)
        vectors = np.zeros((len(texts), grounding.vectors.shape[1]))
        new = [place for place, text in enumerate(texts) if (text or grounding.embeds_empty) and groups[place] < 0]
        if new:
            embedded = np.asarray(grounding.embed([texts[place] for place in new]))
            if embedded.shape != (len(new), vectors.shape[1]) or not np.isfinite(embedded).all():
                raise ValueError(
                    f"generated titles were embedded as {embedded.shape}: expected {len(new)} vectors of "
                    f"{vectors.shape[1]} numbers without NaN or infinity"
                )
            vectors[new] = embedded
        place_of = {text: place for place, text in enumerate(texts)}
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in of_users], dtype=np.int64)])
        places = np.array([place_of[text] for own in of_users for text in own], np.int64)
        return cls(vectors, groups, offsets, places)

    def nearest(self, start: int, stop: int, vectors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each distinct title of the catalogue: the squared distance to the nearest of each user's titles, float64
        [B, G], and that title's position, the first of equally near ones: int64 [B, G].

        Computed in double precision, since |a|² + |b|² − 2ab cancels if a and b are near: in single precision nothing
        would be left of the distance. Equal texts are at distance 0.
        """
        first = self.offsets[start:stop]
        places, inverse = np.unique(self.places[first[0] : self.offsets[stop]], return_inverse=True)
        group = self.groups[places]
        is_known = np.flatnonzero(group >= 0)
        own = self.vectors[places]
        own[is_known] = vectors[rows[group[is_known]]]
        distances = np.empty((len(own), len(rows)))
        at_once = max(1, _PART_ELEMENTS // vectors.shape[1])
        for part in range(0, len(rows), at_once):
            other = vectors[rows[part : part + at_once]].astype(np.float64)
            lengths = np.square(own).sum(axis=1)[:, None] + np.square(other).sum(axis=1)
            distances[:, part : part + at_once] = lengths - 2 * (own @ other.T)
        np.maximum(distances, 0, out=distances)
        distances[is_known, group[is_known]] = 0
        of_titles = distances[inverse]
        nearest = np.empty((stop - start, len(rows)))
        title = np.empty((stop - start, len(rows)), np.int64)
        for user, own in enumerate(np.split(of_titles, (first - first[0])[1:])):
            title[user] = own.argmin(axis=0)
            nearest[user] = own.min(axis=0)
        return nearest, title


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def popularity_factor(
    timestamps: np.ndarray,
    items: np.ndarray,
    n_items: int,
    end: int,
    *,
    half_life_days: float,
    gamma: float,
    without: float = 1.0,
) -> np.ndarray:
    """(1 + Σ 2^(−age / half-life))^γ over each item's interactions: float32 [N].

    Args:
        timestamps, items: the interactions: ms UTC [n] and item rows [n].
        end: ms UTC; interactions must lie before it, and ages are counted back from it.
        half_life_days, gamma: the half-life and γ of the formula.
        without: the factor of an item without interactions; the official code has 0, which leaves it out.

    Raises LeakageError if an interaction lies at or after `end`.
    """
    ages_ms = end - np.asarray(timestamps, np.int64)
    if (late := int((ages_ms <= 0).sum())) > 0:
        raise LeakageError(
            f"{late} interactions lie at or after {format_time(end)}, when popularity must not be known yet; "
            "count only interactions before that time"
        )
    weights = 2.0 ** (-ages_ms / DAY_MS / half_life_days)
    factor = (1 + np.bincount(items, weights, n_items)) ** gamma
    return np.where(np.bincount(items, minlength=n_items) > 0, factor, without).astype(np.float32)


def _groups(items: Items, name: Callable[[str], str]) -> tuple[np.ndarray, np.ndarray]:
    """The first item row of each distinct title, int64 [G], and the number of each item's title, int64 [N]."""
    numbers: dict[str, int] = {}
    group_of = np.array([numbers.setdefault(name(title), len(numbers)) for title in items.titles], np.int64)
    _, rows = np.unique(group_of, return_index=True)
    return rows.astype(np.int64), group_of
