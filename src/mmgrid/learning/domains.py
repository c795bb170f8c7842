"""A domain to learn from: its own model, its items, and, if they are asked, some of its users' histories.

Only what the model itself was trained on is read: interactions before the end of its newest phase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from torch import nn

from mmgrid.data import Corpus, Histories, Items, Known
from mmgrid.data.catalogue import catalogue_at
from mmgrid.data.corpus import INTERACTIONS_FILE, ITEMS_FILE, stored_items
from mmgrid.data.raw import INTERACTIONS
from mmgrid.data.sampling import nested_sample
from mmgrid.learning.errors import LearningError
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.recommender import Recommender


@dataclass(frozen=True)
class LearningDomain:
    """A source of the merge, and where its domain's data are.

    Attributes:
        recommender: the source as a model that recommends.
        data: the folder of the prepared domain; for pseudo-users `items.parquet` alone is enough.
    """

    recommender: Recommender
    data: Path | str


@dataclass(frozen=True, eq=False)
class OpenDomain:
    """A domain with its model in memory.

    Attributes:
        name: the source's name in the recipe.
        paradigm, model: of the source, ready to recommend.
        known: what the source was trained on.
    """

    name: str
    paradigm: Paradigm
    model: nn.Module
    known: Known

    @property
    def items(self) -> Items:
        return self.known.items

    @classmethod
    def open(cls, name: str, domain: LearningDomain, seed: int) -> OpenDomain:
        """Load model and data.

        Raises:
            CheckpointError: the model is no recommender.
            DataError: the data cannot be read.
        """
        facts = domain.recommender.facts
        corpus = _corpus(Path(domain.data), facts.trained_until)
        until = facts.trained_until or (int(corpus.timestamps.max()) + 1 if len(corpus) else 0)
        catalogue = facts.catalogue if facts.catalogue and len(corpus) else "closed"
        known = Known(corpus, catalogue_at(corpus, catalogue, until), until)  # type: ignore[arg-type]
        paradigm, model = domain.recommender.prepared(known, seed=seed)
        return cls(name, paradigm, model, known)

    def histories(self, number: int, seed: int) -> Histories:
        """The known histories of a sample of at most `number` users who have two items or more.

        Raises:
            LearningError: there is no such user.
        """
        corpus = self.known.corpus
        found = corpus.histories(self.known.until)
        fit = np.flatnonzero(found.lengths > 1)
        if not fit.size:
            raise LearningError(
                f"{corpus.name}: no user has two interactions that {self.name} was trained on, so there is no history "
                "to learn from; use pseudo-users"
            )
        return found.take(fit[nested_sample(corpus.user_ids[found.users[fit]], number, seed, "learned merges")])


def _corpus(folder: Path, until: int | None) -> Corpus:
    """The prepared domain; without a table of interactions, its items alone."""
    if (folder / INTERACTIONS_FILE).is_file() or not (folder / ITEMS_FILE).is_file():
        return Corpus.load(folder, until=until)
    return Corpus.from_tables(folder.name, pl.DataFrame(schema=INTERACTIONS), stored_items(folder))


def newest_apart(histories: Histories) -> Histories:
    """The same items at times of which only each history's newest is 1, the others 0; `end` is 2."""
    newest = np.zeros(len(histories.items), np.int64)
    newest[histories.offsets[1:] - 1] = 1
    return replace(histories, timestamps=newest, end=2)
