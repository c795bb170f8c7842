"""A domain at one time, with its best λ and the facts that may predict it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmgrid.data import Calendar, Corpus
from mmgrid.data.held_out import Target, end_of_knowledge
from mmgrid.data.statistics import mean_gap_days
from mmgrid.data.turnover import likeness_to_year_before, new_item_share, return_rate
from mmgrid.studies.checkpoint_steps import step_facts
from mmgrid.studies.statistics.curve import Best, smoother
from mmgrid.studies.statistics.ranked import MAIN_METRIC, Ranked
from mmgrid.studies.statistics.standardised import Floats
from mmgrid.studies.sweep import Sweep

FEATURES = ("gap_days", "return_rate", "new_items", "year_before", "norm_ratio", "cosine")
"""The facts: mean age of the items at the interactions; share of users who return; share of interactions with new items;
likeness of the items to those of a year before; length of the newest step of training relative to the one before, and
the cosine of both."""


@dataclass(frozen=True, eq=False)
class Case:
    """A domain at one time.

    Attributes:
        window: the end of training, as a date.
        group: the users whose λ* counts; the sweep has some.
        facts: the `FEATURES`; None if a fact is unknown.
    """

    window: str
    group: str
    sweep: Sweep
    facts: Mapping[str, float | None]

    @property
    def domain(self) -> str:
        return self.sweep.domain

    @property
    def users(self) -> Ranked:
        return self.sweep.ranked.groups()[self.group]

    @property
    def best(self) -> Best:
        return self.sweep.best[self.group]

    def values_at(self, scales: Sequence[float]) -> Floats:
        """float64[B, S]: the smoothed NDCG@20 of each user at any λ within the range of the sweep, in [0, 1]."""
        return self.users.values(MAIN_METRIC) @ smoother(self.sweep.scales, np.array(scales, float)).T


def facts_of(
    corpus: Path, checkpoints: Mapping[str, Path], paradigm: str, calendar: Calendar, target: Target
) -> dict[str, float | None]:
    """The `FEATURES` of a domain; nothing in them was unknown at the end of training.

    Args:
        corpus: the folder of the prepared domain.
        checkpoints: training phase → folder, oldest first; at least the two newest phases.
    """
    known = Corpus.load(corpus, until=end_of_knowledge(calendar, target))
    earlier, newest = (calendar.phase(name) for name in list(checkpoints)[-2:])
    return {
        "gap_days": mean_gap_days(known),
        "return_rate": return_rate(known, earlier, newest),
        "new_items": new_item_share(known, newest),
        "year_before": likeness_to_year_before(known, newest),
    } | step_facts(checkpoints, paradigm)
