"""What is known of a domain's size before anything is computed on it: counts, and what follows from them.

They are for estimates of costs alone. `tests/paradigms/test_counts.py` compares windows and targets with the true ones of a
real domain, and allows a quarter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRAINED = ("pretrain", "phase1", "phase2")
CHARACTERS_PER_TOKEN = 4.2  # of English item titles
TITLE_CHARACTERS, DESCRIPTION_CHARACTERS = 65.0, 400.0  # where nothing is known of the texts
INTERACTIONS_PER_USER, INTERACTIONS_PER_ITEM = 8.5, 12.0  # likewise


@dataclass(frozen=True)
class Counts:
    """The size of one prepared domain.

    users, items: of the domain. interactions: by phase. test_users: who are evaluated.
    title_tokens, text_tokens: of an item's title, and of title and description, mean.
    """

    users: float
    items: float
    interactions: Mapping[str, float]
    test_users: float
    title_tokens: float = TITLE_CHARACTERS / CHARACTERS_PER_TOKEN
    text_tokens: float = (TITLE_CHARACTERS + DESCRIPTION_CHARACTERS) / CHARACTERS_PER_TOKEN

    @classmethod
    def of(cls, statistics: Mapping[str, Any], characters: Mapping[str, float] | None = None) -> Counts:
        """From a domain's `Statistics`, of which users and items may be missing, and from the length of its texts.

        Args:
            characters: mean number in an item's `title` and `description`; either may be missing.
        """
        interactions = dict(statistics["interactions"])
        total = sum(interactions.values())
        characters = {"title": TITLE_CHARACTERS, "description": DESCRIPTION_CHARACTERS} | dict(characters or {})
        title, description = characters["title"], characters["description"]
        return cls(
            users=statistics.get("users") or total / INTERACTIONS_PER_USER,
            items=statistics.get("items") or total / INTERACTIONS_PER_ITEM,
            interactions=interactions,
            test_users=statistics["test_users"],
            title_tokens=title / CHARACTERS_PER_TOKEN,
            text_tokens=(title + description) / CHARACTERS_PER_TOKEN,
        )

    def trained(self, phase: str) -> float:
        """Interactions of a phase; `all` is everything before the test phase."""
        return float(sum(self.interactions[name] for name in TRAINED)) if phase == "all" else self.interactions[phase]

    def length(self, phase: str) -> float:
        """Mean interactions of a user at the end of a phase."""
        last = TRAINED[-1] if phase == "all" else phase
        known = TRAINED[: TRAINED.index(last) + 1] if last in TRAINED else (*TRAINED, last)
        return sum(self.interactions[name] for name in known) / max(self.users, 1.0)

    def windows(self, phase: str, length: int) -> float:
        """Windows of at most `length` targets that hold a phase's targets."""
        trained = self.trained(phase)
        targets_of_one = min(2.0 + 0.85 * trained / max(self.users, 1.0), float(length))
        return max(trained / targets_of_one, 1.0)

    def window_items(self, phase: str, length: int) -> float:
        """Mean items of a window, which has at most `length` + 1."""
        return min(2.2 + 0.8 * self.length(phase), length + 1.0)

    def targets(self, phase: str, most_per_user: int | None) -> float:
        """Single targets with at least four items before them, at most so many of a user."""
        if most_per_user is not None:
            return max(self.users * most_per_user * -math.expm1(-0.055 * self.length(phase)), 1.0)
        return max(self.trained(phase) * -math.expm1(-0.14 * self.length(phase)), 1.0)

    def context(self, phase: str, length: int) -> float:
        """Mean items before a single target, at most `length`."""
        whole = self.length(phase)
        return min(4.0 + 0.5 * whole if phase == "pretrain" else 2.0 + 1.1 * whole, float(length))
