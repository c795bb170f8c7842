"""What a synthetic world is to be like: for each domain how fast items and tastes change, and how strongly
tastes, sequence and popularity rule what users do.

The numbers are planted truth: a study that claims to measure drift or recency can be checked against them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from mmgrid.data.calendar import PAPER_CALENDAR, Calendar
from mmgrid.data.synthetic.words import MOST_DIMENSIONS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

# Least and most of each number.
_LIMITS: dict[str, tuple[float, float]] = {
    "users": (20, 200_000),
    "items": (40, 20_000),
    "mean_interactions": (6, 200),
    "item_life_days": (30, 10_000),
    "drift": (0, 3),
    "wander": (0, 3),
    "popularity": (0, 2),
    "taste_dimensions": (2, MOST_DIMENSIONS),
    "taste_strength": (0, 20),
    "sequence_strength": (0, 10),
    "shared_words": (0, 1),
}


@dataclass(frozen=True)
class WorldDomain:
    """One domain of a world.  ValueError if a number lies outside of what makes sense.

    users, items: how many; a few of them are lost in preparation, as in real data.
    mean_interactions: per user; nobody has fewer than 5.
    item_life_days: turnover. An item's appeal falls to 1/e in this time after it appears (a mean: items differ),
        and items appear at a steady rate; the shorter, the newer is what users take.
    drift: the trend, in radians a year: how fast everybody's taste turns, also that of users who are silent for
        a while. A quarter turn (1.57) leaves nothing in common.
    wander: likewise, but each user in a direction of their own (a mean: users differ).
    popularity: exponent of the long tail; an item's appeal is its popularity rank ** -popularity.
    taste_dimensions: of tastes and items, each with words of its own.
    taste_strength: log-odds between an item that suits a taste fully and one that leaves it cold.
    sequence_strength: log-odds that the next item of the same series has over another.
    shared_words: share of attribute words from the vocabulary that all domains share; the rest are its own.
    """

    name: str
    users: int = 3000
    items: int = 800
    mean_interactions: float = 14.0
    item_life_days: float = 700.0
    drift: float = 0.3
    wander: float = 0.2
    popularity: float = 0.5
    taste_dimensions: int = 8
    taste_strength: float = 8.0
    sequence_strength: float = 6.0
    shared_words: float = 0.6

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"domain name {self.name!r}: expected letters, digits, _ and -, as it names files")
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise ValueError(f"{self.name}.{name} is {value}: expected a number from {least:g} to {most:,g}")
        for name in ("users", "items", "taste_dimensions"):
            if getattr(self, name) != int(getattr(self, name)):
                raise ValueError(f"{self.name}.{name} is {getattr(self, name)}: expected a whole number")
        if self.mean_interactions > self.items / 8:
            raise ValueError(
                f"{self.name}.mean_interactions is {self.mean_interactions:g}: expected at most an eighth of the "
                f"{self.items} items, as nobody takes an item twice"
            )

    def parameters(self) -> dict[str, float | int]:
        """The numbers, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}


@dataclass(frozen=True)
class World:
    """Domains that share a calendar and a language.

    A domain's files depend on the seed, the calendar, its name and its own numbers: adding another domain
    changes nothing.  ValueError if two have one name.
    """

    domains: tuple[WorldDomain, ...]
    seed: int = 0
    calendar: Calendar = PAPER_CALENDAR

    def __post_init__(self) -> None:
        names = [domain.name for domain in self.domains]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"domains: {', '.join(repeated)} named twice; names must differ")
        if not names:
            raise ValueError("domains: a world needs at least one")

    def domain(self, name: str) -> WorldDomain:
        """The domain of that name; ValueError if there is none."""
        for domain in self.domains:
            if domain.name == name:
                return domain
        raise ValueError(f"{name!r}: no such domain; there are {', '.join(d.name for d in self.domains)}")
