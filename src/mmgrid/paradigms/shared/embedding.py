"""Paradigms whose score is the dot product of a user's vector and an item's: they rank and recommend alike, and their
vectors can be used outside, in an index of nearest neighbours."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mmgrid.data import Histories, Items
from mmgrid.paradigms.contract import Model, Paradigm
from mmgrid.paradigms.shared.dot_product import dense_ranks, dense_top


@dataclass(frozen=True, eq=False)
class Vectors:
    """A model's vectors for a catalogue of N items.

    Attributes:
        items: float [N, D].
        users: histories of U users → float [U, D], whose dot products with `items` are the scores.
    """

    items: Tensor
    users: Callable[[Histories], Tensor]


class Embedding(Paradigm[Model]):
    """A paradigm that scores by dot products."""

    @abstractmethod
    def vectors(self, model: Model, items: Items) -> Vectors:
        """The vectors of the whole catalogue, computed once, and those of users."""

    def vectors_of(self, model: Model, items: Items, others: Items) -> Tensor:
        """The vectors of other items, such as new ones, to be compared with those of the catalogue: float [M, D].

        Raises ValueError if the model knows items by their ids, and not these.
        """
        return self.vectors(model, others).items

    def rank(self, model: Model, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        found = self.vectors(model, items)
        return dense_ranks(found.users(histories), found.items, histories, items, targets)

    def recommend(self, model: Model, histories: Histories, items: Items, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.recommender(model, items, k)(histories)

    def recommender(self, model: Model, items: Items, k: int) -> Callable[[Histories], tuple[np.ndarray, np.ndarray]]:
        """`recommend` for one block of users after the other; the items' vectors are computed once."""
        found = self.vectors(model, items)
        return lambda histories: dense_top(found.users(histories), found.items, histories, items, k)
