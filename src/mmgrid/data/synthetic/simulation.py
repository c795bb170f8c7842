"""Simulates users who choose one item after the other while items come and go and tastes drift.

The probability of an item is proportional to
exp(popularity + freshness + taste_strength * fit to the taste + sequence_strength * continuation of the series).
Tastes and items are unit vectors. A common trend rotates all tastes, and each taste also rotates in its own direction.
Time is in years since the start of pretrain.

Shapes: U users, N items, D taste dimensions, n interactions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.data.calendar import DAY_MS
from mmgrid.data.synthetic.words import Vocabulary, item_texts, vocabulary
from mmgrid.data.synthetic.world import World, WorldDomain
from mmgrid.seeds import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

YEAR_DAYS = 365.25
_BLOCK_CELLS = 1 << 20
_ITEMS_PER_SERIES = 6
_SERIES_PER_BRAND = 4
_NOUNS = 12
_FEWEST, _MOST = 5, 120  # interactions of a user
# Interactions before and after the calendar, which preparation must drop.
_BEFORE_DAYS, _AFTER_DAYS = 120, 40
# Shares of the log-odds of the next item in a series: for other items of the series, and for items like the last.
_SAME_SERIES, _ALIKE = 0.6, 0.4
# The share of the year at which the season of gifts begins: November.
_GIFTS_FROM = 5 / 6
# Probability that a choice depends on the last item.
_CONTINUES = 0.7


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated domain, with its ground truth.

    start_ms: the start of pretrain.
    users int64[n], items int64[n], times_ms int64[n], ratings int64[n] (1 to 5): sorted by user, then time.
    titles, descriptions: N strings. item_vectors float[N, D], appears_ms int64[N].
    """

    domain: WorldDomain
    start_ms: int
    users: Ints
    items: Ints
    times_ms: Ints
    ratings: Ints
    titles: list[str]
    descriptions: list[str]
    item_vectors: Floats
    appears_ms: Ints
    brands: list[str]
    tastes: Tastes

    def taste(self, time_ms: int) -> Floats:
        """float[U, D]: the taste of every user at a time, as unit vectors."""
        years = np.full(self.domain.users, (time_ms - self.start_ms) / (YEAR_DAYS * DAY_MS))
        return self.tastes.at(np.arange(self.domain.users), years)


@dataclass(frozen=True, eq=False)
class Tastes:
    """The taste of every user as a function of time.

    first, second: float[U, D], orthonormal pairs; a user's taste rotates from the first towards the second at `speed`
    float[U] radians a year. basis: orthogonal float[D, D]; the trend rotates in the planes of consecutive pairs of its
    rows, at `drift` radians a year.
    """

    first: Floats
    second: Floats
    speed: Floats
    basis: Floats
    drift: float

    def at(self, users: Ints, years: Floats) -> Floats:
        """float[B, D]: the tastes of B users at B times, as unit vectors."""
        own = self.speed[users] * years
        taste = np.cos(own)[:, None] * self.first[users] + np.sin(own)[:, None] * self.second[users]
        return turn(taste, self.basis, self.drift * years)


def turn(vectors: Floats, basis: Floats, angles: Floats) -> Floats:
    """float[B, D]: B vectors, each rotated by its angle in the planes of the basis. An odd last axis is fixed."""
    inside = vectors @ basis.T
    pairs = inside.shape[1] // 2 * 2
    even, odd = inside[:, 0:pairs:2].copy(), inside[:, 1:pairs:2].copy()
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    inside[:, 0:pairs:2] = cos * even - sin * odd
    inside[:, 1:pairs:2] = sin * even + cos * odd
    return inside @ basis


def simulate(world: World, name: str) -> Simulation:
    """Simulate the domain `name`. The same seed, calendar, name and numbers give the same result."""
    domain = world.domain(name)
    start, end = world.calendar.pretrain.start, world.calendar.test.end
    span = (end - start) / (YEAR_DAYS * DAY_MS)
    owner = world.owner_of_items(name)
    catalogue = _catalogue(owner, generator(world.seed, "synthetic", owner.name, "items"), span)
    tastes = _tastes(domain, generator(world.seed, "synthetic", name, "tastes"))
    counts, times = _times(domain, generator(world.seed, "synthetic", name, "times"), span)
    gifts = _gifts(domain, generator(world.seed, "synthetic", name, "gifts"), times + start / (YEAR_DAYS * DAY_MS))
    choices = generator(world.seed, "synthetic", name, "choices")
    items = _choices(domain, choices, catalogue, tastes, gifts, counts, times)
    users = np.repeat(np.arange(domain.users), counts)
    taken = items >= 0
    users, items, times = users[taken], items[taken], times[taken]
    suits = (tastes.at(users, times) * catalogue.vectors[items]).sum(axis=1)
    noise = generator(world.seed, "synthetic", name, "ratings").normal(0, 0.7, len(users))
    ratings = np.clip(np.rint(3.6 + 1.5 * suits + noise), 1, 5).astype(np.int64)
    titles, descriptions = item_texts(
        generator(world.seed, "synthetic", owner.name, "texts"),
        catalogue.words,
        catalogue.vectors,
        catalogue.nouns,
        catalogue.brands,
        catalogue.series,
        catalogue.volumes,
        domain.shared_words,
    )
    return Simulation(
        domain=domain,
        start_ms=start,
        users=users,
        items=items,
        times_ms=_milliseconds(times, start),
        ratings=ratings,
        titles=titles,
        descriptions=descriptions,
        item_vectors=catalogue.vectors,
        appears_ms=_milliseconds(catalogue.appears, start),
        brands=[catalogue.words.brands[brand] for brand in catalogue.brands],
        tastes=tastes,
    )


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """N items: vectors [N, D], appears [N] and life [N] in years, appeal [N] (log), and the attributes for texts."""

    vectors: Floats
    appears: Floats
    life: Floats
    appeal: Floats
    series: Ints
    volumes: Ints
    brands: Ints
    nouns: Ints
    words: Vocabulary


def _catalogue(domain: WorldDomain, random: np.random.Generator, span: float) -> _Catalogue:
    N, D = domain.items, domain.taste_dimensions
    n_series = max(1, N // _ITEMS_PER_SERIES)
    n_brands = max(1, n_series // _SERIES_PER_BRAND)
    words = vocabulary(random, D, _NOUNS, n_brands, n_series)
    brand_of, noun_of = random.integers(n_brands, size=n_series), random.integers(_NOUNS, size=n_series)
    of_brand, of_noun = _directions(random, n_brands, D), _directions(random, _NOUNS, D)
    centre = _unit(0.7 * of_brand[brand_of] + 0.6 * of_noun[noun_of] + 0.8 * _directions(random, n_series, D))
    series = np.sort(random.integers(n_series, size=N))
    vectors = _unit(centre[series] + 0.5 * _directions(random, N, D))
    life = domain.item_life_days / YEAR_DAYS
    lives = life * np.exp(random.normal(-0.08, 0.4, N))
    # The items of a series appear one after the other, so that the next one is often new.
    first_appears = random.uniform(-2 * life, span, n_series)
    wait = random.exponential(life / 2, N)
    within = np.cumsum(wait) - np.repeat(_at_start(np.cumsum(wait) - wait, series), _sizes(series))
    appears = first_appears[series] + within
    # Times after the end wrap around, so that items appear at a steady rate.
    period = span + 2 * life
    appears = (appears + 2 * life) % period - 2 * life
    order = np.lexsort((appears, series))
    appears = appears[order]
    starts = np.repeat(_at_start(np.arange(N), series), _sizes(series))
    volumes = np.arange(N) - starts
    appeal = -domain.popularity * np.log(1.0 + random.permutation(N))
    return _Catalogue(vectors, appears, lives, appeal, series, volumes, brand_of[series], noun_of[series], words)


def _tastes(domain: WorldDomain, random: np.random.Generator) -> Tastes:
    D = domain.taste_dimensions
    basis, _ = np.linalg.qr(random.normal(size=(D, D)))
    # Tastes share a common direction, so that the trend moves the demand of the whole domain.
    common = _directions(random, 1, D)
    first = _unit(0.5 * common + _directions(random, domain.users, D))
    other = _directions(random, domain.users, D)
    second = _unit(other - (other * first).sum(axis=1, keepdims=True) * first)
    speed = random.gamma(2.0, domain.wander / 2.0, domain.users)
    return Tastes(first, second, speed, basis, domain.drift)


def _times(domain: WorldDomain, random: np.random.Generator, span: float) -> tuple[Ints, Floats]:
    """Number of interactions of each user, int64[U], and their times in years, sorted within a user: float[n].

    The number of active users grows, as in a growing shop. Each user has a period with visits of several interactions a
    few days apart.
    """
    U = domain.users
    most = max(_FEWEST, min(_MOST, domain.items // 4))
    extra = random.gamma(0.8, (domain.mean_interactions - _FEWEST) / 0.8, U)
    counts = np.minimum(_FEWEST + np.rint(extra), most).astype(np.int64)
    low, high = -_BEFORE_DAYS / YEAR_DAYS, span + _AFTER_DAYS / YEAR_DAYS
    growth, shortest = domain.growth, 0.15 * span
    begin = low + (high - low - shortest) * np.log1p(random.random(U) * np.expm1(growth)) / growth
    stay = np.minimum(shortest + random.exponential(0.4 * span, U), high - begin)
    user = np.repeat(np.arange(U), counts)
    visits = np.maximum(1, np.rint(counts / 2)).astype(np.int64)
    visit = np.floor(random.random(len(user)) * visits[user]).astype(np.int64)
    offset = np.cumsum(visits) - visits
    visit_time = random.random(int(visits.sum()))
    times = begin[user] + stay[user] * visit_time[offset[user] + visit]
    times = np.minimum(times + random.exponential(2.0 / YEAR_DAYS, len(user)), high)
    order = np.lexsort((times, user))
    return counts, times[order]


@dataclass(frozen=True, eq=False)
class _Gifts:
    """Which interactions are gifts, bool[n], and the taste that they follow, float[D]."""

    given: Booleans
    taste: Floats


def _gifts(domain: WorldDomain, random: np.random.Generator, years: Floats) -> _Gifts:
    """`years` float[n]: times of interactions, since 1970."""
    taste = _directions(random, 1, domain.taste_dimensions)[0]
    return _Gifts((years % 1 >= _GIFTS_FROM) & (random.random(len(years)) < domain.gifts), taste)


def _choices(
    domain: WorldDomain,
    random: np.random.Generator,
    catalogue: _Catalogue,
    tastes: Tastes,
    gifts: _Gifts,
    counts: Ints,
    times: Floats,
) -> Ints:
    """int64[n]: the item of each interaction; -1 if no item was left."""
    chosen = np.full(len(times), -1)
    draws, goes_on = random.random(len(times)), random.random(len(times)) < _CONTINUES
    offsets = np.cumsum(counts) - counts
    block = max(1, _BLOCK_CELLS // domain.items)
    # Users with similar numbers of interactions form a block, since they stop at about the same step.
    by_length = np.argsort(-counts, kind="stable")
    for first in range(0, domain.users, block):
        members = by_length[first : first + block]
        taken = np.zeros((len(members), domain.items), np.bool_)
        last = np.full(len(members), -1)
        for step in range(int(counts[members[0]])):
            here = int(np.count_nonzero(counts[members] > step))
            rows = offsets[members[:here]] + step
            given = gifts.given[rows]
            goes = goes_on[rows] & (last[:here] >= 0) & ~given
            taste = np.where(given[:, None], gifts.taste, tastes.at(members[:here], times[rows]))
            log_odds = _log_odds(domain, catalogue, taste, times[rows], np.where(goes, last[:here], -1))
            log_odds[taken[:here] | (catalogue.appears > times[rows, None])] = -np.inf
            picked = _draw(log_odds, draws[rows])
            chosen[rows] = picked
            took = np.flatnonzero(picked >= 0)
            taken[took, picked[took]] = True
            own = took[~given[took]]
            last[own] = picked[own]
    return chosen


def _log_odds(domain: WorldDomain, catalogue: _Catalogue, taste: Floats, times: Floats, last: Ints) -> Floats:
    """float[B, N]: log-odds from popularity, freshness, taste, and continuation of the last item (-1: none)."""
    going = np.flatnonzero(last >= 0)
    pull = domain.taste_strength * taste
    pull[going] += _ALIKE * domain.sequence_strength * catalogue.vectors[last[going]]
    # One matrix product for everything but the series, since the age (time - appears) / life is linear in time.
    left = np.column_stack([pull, times, np.ones(len(times))])
    right = np.column_stack(
        [catalogue.vectors, -1 / catalogue.life, catalogue.appeal + catalogue.appears / catalogue.life]
    )
    log_odds = left @ right.T
    # A series is a contiguous range of rows, in order of appearance.
    series = catalogue.series[last[going]]
    begin, stop = np.searchsorted(catalogue.series, series), np.searchsorted(catalogue.series, series, "right")
    size = stop - begin
    rows = np.repeat(going, size)
    columns = np.repeat(begin - np.cumsum(size) + size, size) + np.arange(size.sum())
    log_odds[rows, columns] += domain.sequence_strength * (_SAME_SERIES - _ALIKE)
    follows = last[going] + 1 < stop
    log_odds[going[follows], last[going][follows] + 1] += domain.sequence_strength * (1 - _SAME_SERIES)
    return log_odds


def _draw(log_odds: Floats, draws: Floats) -> Ints:
    """int64[B]: one item per row, drawn by its odds; -1 if none is available."""
    most = log_odds.max(axis=1)
    possible = np.isfinite(most)
    log_odds -= np.where(possible, most, 0.0)[:, None]
    cumulative = np.cumsum(np.exp(log_odds, out=log_odds), axis=1)
    picked = (cumulative <= (draws * cumulative[:, -1])[:, None]).sum(axis=1)
    return np.where(possible, np.minimum(picked, log_odds.shape[1] - 1), -1)


def _directions(random: np.random.Generator, count: int, dimensions: int) -> Floats:
    return _unit(random.normal(size=(count, dimensions)))


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _milliseconds(years: Floats, start_ms: int) -> Ints:
    return start_ms + np.rint(years * YEAR_DAYS * DAY_MS).astype(np.int64)


def _sizes(groups: Ints) -> Ints:
    """The size of each group that occurs in sorted `groups`."""
    return np.unique(groups, return_counts=True)[1]


def _at_start(values: npt.NDArray, groups: Ints) -> npt.NDArray:
    """The value at the first position of each group that occurs in sorted `groups`."""
    return values[np.unique(groups, return_index=True)[1]]
