"""Parameters of a synthetic world: for each domain, how fast items and tastes change, and how strongly taste, sequence
and popularity determine what users choose.

The parameters are the ground truth against which studies that claim to measure drift or recency can be checked.
"""

import math
import re
from dataclasses import dataclass, fields
from typing import Any

from mmgrid.data.calendar import PAPER_CALENDAR, Calendar
from mmgrid.data.synthetic.words import MOST_DIMENSIONS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

# Minimum and maximum of each parameter.
_LIMITS: dict[str, tuple[float, float]] = {
    "users": (20, 200_000),
    "items": (40, 20_000),
    "mean_interactions": (6, 200),
    "item_life_days": (30, 10_000),
    "drift": (0, 3),
    "wander": (0, 3),
    "gifts": (0, 1),
    "growth": (0.1, 6),
    "popularity": (0, 2),
    "taste_dimensions": (2, MOST_DIMENSIONS),
    "taste_strength": (0, 20),
    "sequence_strength": (0, 10),
    "shared_words": (0, 1),
}

# What the first worlds did, before these were parameters: so stored worlds keep their fingerprints.
_IN_FIRST_WORLDS: dict[str, Any] = {"gifts": 0.0, "growth": 1.2, "items_of": None}

# The parameters of a catalogue; domains that share one must agree on them.
_OF_ITEMS = ("items", "item_life_days", "popularity", "taste_dimensions", "shared_words")


@dataclass(frozen=True)
class WorldDomain:
    """One domain of a world. Raises ValueError if a parameter is out of range.

    users, items: their numbers; preparation drops a few of them, as in real data.
    mean_interactions: per user; the minimum is 5.
    item_life_days: turnover. The appeal of an item falls to 1/e in this time after it appears (mean over items), and
        items appear at a steady rate; the shorter, the newer are the items that users choose.
    drift: the common trend, in radians a year, by which all tastes rotate, also those of users who are inactive for
        a while. A quarter turn (1.57) leaves nothing in common.
    wander: rotation of each user's taste in an individual direction, in radians a year (mean over users).
    gifts: probability that a choice in November or December is a gift. A gift follows the fashion of the domain's gifts,
        not the user's taste or last item, so what these months teach misleads in the next.
    growth: logarithm of the ratio of users who begin at the end to those who begin at the start.
    popularity: exponent of the long tail; the appeal of an item is its popularity rank ** -popularity.
    taste_dimensions: number of dimensions of tastes and items; each has its own words.
    taste_strength: log-odds of an item that fits a taste perfectly over one that is orthogonal to it.
    sequence_strength: log-odds of the next item in the same series over an unrelated item.
    shared_words: share of attribute words from the vocabulary that all domains share; the rest are the domain's own.
    items_of: another domain, whose items this one sells, too, with the same texts. Their models have much in common, so
        they merge well.
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
    gifts: float = 0.0
    growth: float = 1.2
    items_of: str | None = None

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

    def parameters(self) -> dict[str, float | int | str]:
        """The parameters by name; of those that the first worlds lacked, the ones that differ from these worlds."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return {
            name: value
            for name, value in values.items()
            if name not in _IN_FIRST_WORLDS or value != _IN_FIRST_WORLDS[name]
        }


@dataclass(frozen=True)
class World:
    """Domains that share a calendar and a language.

    A domain's files depend on the seed, the calendar, its name and its own parameters, so adding another domain does not
    change them. Raises ValueError if two domains have the same name, or if the domain that `items_of` names is missing or
    has other items.
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
        for domain in self.domains:
            if domain.items_of is not None:
                self._check_shared_items(domain, domain.items_of)

    def _check_shared_items(self, domain: WorldDomain, owner: str) -> None:
        others = {other.name: other for other in self.domains if other is not domain and other.items_of is None}
        if owner not in others:
            names = ", ".join(others) or "there is none"
            raise ValueError(f"{domain.name}.items_of is {owner!r}: expected a domain with items of its own: {names}")
        for key in _OF_ITEMS:
            if getattr(domain, key) != getattr(others[owner], key):
                raise ValueError(
                    f"{domain.name}.{key} is {getattr(domain, key):g}, {owner}.{key} is {getattr(others[owner], key):g}: "
                    f"{domain.name} has the items of {owner}, so give both the same"
                )

    def owner_of_items(self, name: str) -> WorldDomain:
        """The domain whose items the domain `name` sells: itself, or the one that `items_of` names."""
        domain = self.domain(name)
        return domain if domain.items_of is None else self.domain(domain.items_of)

    def domain(self, name: str) -> WorldDomain:
        """The domain with this name. Raises ValueError if there is none."""
        for domain in self.domains:
            if domain.name == name:
                return domain
        raise ValueError(f"{name!r}: no such domain; there are {', '.join(d.name for d in self.domains)}")
