"""What a paradigm is: where its training starts, how histories become examples, its loss, and how it recommends.

`mmgrid.testing.ParadigmKit` checks what is promised here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np

from mmgrid.data import Histories, Items, Known, Phase

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mmgrid.training.schedule import Examples


Model = TypeVar("Model", bound="nn.Module")


class CannotTrainError(RuntimeError):
    """The paradigm takes models as they are and trains nothing."""


@dataclass(frozen=True)
class CodesFolder:
    """The folder of a domain's semantic IDs; `shared` if all domains of the grid have one codebook."""

    folder: Path
    shared: bool = False


@dataclass(frozen=True)
class TrainingStart:
    """Where a training starts.

    Attributes:
        folder: the checkpoint of the phase before, or the paradigm's base; None where a paradigm without a base
            starts its first phase.
        items: the domain's catalogue. domain: its name.
        seed: of this training. grid_seed: of the grid, the same for all trainings.
        needs: what the spec's `training_needs` names (`codes`: a `CodesFolder`). Only where a chain of phases begins:
            later phases find it in `folder`.
    """

    folder: Path | None
    items: Items
    domain: str
    seed: int
    grid_seed: int
    needs: Mapping[str, Any] = field(default_factory=dict)


class Paradigm(ABC, Generic[Model]):
    """One way to recommend with a model. Item rows index the domain's `Items`; users are rows of `Histories`.

    `recipe`: its values, of which those in `EVALUATION` say how a model is evaluated.
    """

    name: str
    recipe: Any = None

    # ---- where models come from ------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, recipe: Any = None, domain: str | None = None) -> tuple[Self, Model]:
        """The paradigm and the model of a folder that `save` wrote.

        Args:
            recipe: its values; default: those that the folder declares.
            domain: of a merge that keeps parts of several domains, the one to recommend for.
        """

    @classmethod
    def write_base(cls, recipe: Any, backbone: Path, folder: Path, seed: int) -> Model:
        """Write Θ⁽⁰⁾, the untrained model that all checkpoints of a grid start from, and return it.

        Only for a paradigm whose spec says `from_backbone`.
        """
        raise CannotTrainError(f"{cls.name} has no base")

    @classmethod
    def start(cls, recipe: Any, start: TrainingStart) -> tuple[Self, Model]:
        """The paradigm and the model that a training goes on from."""
        raise CannotTrainError(f"{cls.name} takes models as they are: there is nothing to train")

    @abstractmethod
    def save(self, model: Model, folder: Path) -> None:
        """Write `model` into `folder`, which exists, so that `load` gives the same recommendations.

        Its `config.json` declares the paradigm: as `{"mmgrid": {"paradigm": NAME}}`, or by the spec's `model_type`.
        """

    def facts(self, model: Model) -> dict[str, Any]:
        """What `mmgrid.json` next to the weights declares besides what every checkpoint declares (see `facts`)."""
        return {}

    @classmethod
    def moved_token_rows(
        cls, checkpoints: Mapping[str, Mapping[str, Path]], base: Path, seed: int
    ) -> dict[str, dict[str, np.ndarray]]:
        """How far each domain's own token rows moved from where they were drawn, by phase and domain: [rows, width].

        Only for a paradigm whose spec says `own_token_rows`. checkpoints: folders by phase and domain.
        """
        raise NotImplementedError(f"{cls.name} has token rows of its own, and does not say how far they moved")

    # ---- training ----------------------------------------------------------------------------------------------

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> Examples:
        """Training examples whose targets lie in `phase`; LeakageError if the histories reach beyond it."""
        raise CannotTrainError(f"{self.name} takes models as they are: there is nothing to train")

    def loss(self, model: Model, batch: dict[str, Any]) -> Tensor:
        """Mean loss of a collated batch: a scalar.

        It calls the model itself, `model(...)`, where the recipe's precision takes effect, and not parts of it.
        """
        raise CannotTrainError(f"{self.name} takes models as they are: there is nothing to train")

    # ---- recommending ------------------------------------------------------------------------------------------

    def prepare(self, known: Known, needs: Mapping[str, Any], seed: int = 0) -> None:
        """Take in what is known when users are evaluated: catalogue, popularity, and the spec's `evaluation_needs`.

        Called before `rank` (then `known` is a `HeldOut`) and `recommend`. A need may be missing, such as
        `title_vectors` for a checkpoint that lies alone: then the paradigm makes do, or raises ValueError.

        Args:
            seed: of what is sampled.
        """

    @abstractmethod
    def rank(self, model: Model, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        """Full rank of each user's target, from 0, or NOT_RANKED: int64 [users]."""

    @abstractmethod
    def recommend(self, model: Model, histories: Histories, items: Items, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best items outside each history: item rows int64 [users, k], scores float32 [users, k].

        Where fewer than k items are left, a row is filled up with -1 and -inf.
        """
