"""The contract of a paradigm: where training starts, how histories become examples, the loss, and how it recommends.

`mmgrid.testing.ParadigmKit` tests it.
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
    """The paradigm trains nothing; it uses models without changing them."""


@dataclass(frozen=True)
class CodesFolder:
    """The folder of a domain's semantic IDs; `shared` if all domains of the grid have one codebook."""

    folder: Path
    shared: bool = False


@dataclass(frozen=True)
class TrainingStart:
    """Where a training starts.

    Attributes:
        folder: the checkpoint of the previous phase, or the paradigm's base; None in the first phase of a paradigm
            without a base.
        items: the domain's catalogue.
        domain: the domain's name.
        seed: of this training.
        grid_seed: of the grid; the same for all its trainings.
        needs: the spec's `training_needs` by name (`codes`: a `CodesFolder`). Empty in later phases of a chain, which
            find everything in `folder`.
    """

    folder: Path | None
    items: Items
    domain: str
    seed: int
    grid_seed: int
    needs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """What a model expected at T places of a batch, and what came there.

    Attributes:
        logits: float32 [T, C] over C choices; -inf for what is no choice.
        labels: int64 [T], the choices that came.
    """

    logits: Tensor
    labels: Tensor


class Paradigm(ABC, Generic[Model]):
    """One way to recommend with a model. Item rows index the domain's `Items`; users are rows of `Histories`.

    Attributes:
        name: the name in grid files, cells and results.
        recipe: its values; those in `EVALUATION` say how a model is evaluated.
        own_embedder: whether the checkpoint itself names the model that embeds texts, instead of its grid.
    """

    name: str
    recipe: Any = None
    own_embedder: bool = False

    # ---- loading and saving ----------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, recipe: Any = None, domain: str | None = None) -> tuple[Self, Model]:
        """The paradigm and the model of a folder that `save` wrote.

        Args:
            recipe: the paradigm's values; default: those that the folder declares.
            domain: the domain to recommend for, if a merge keeps parts of several domains.
        """

    @classmethod
    def write_base(cls, recipe: Any, backbone: Path, folder: Path, seed: int) -> Model:
        """Write Θ⁽⁰⁾, the untrained model that all checkpoints of a grid start from, and return it.

        Only for a paradigm whose spec says `from_backbone`.
        """
        raise CannotTrainError(f"{cls.name} has no base")

    @classmethod
    def start(cls, recipe: Any, start: TrainingStart) -> tuple[Self, Model]:
        """The paradigm and the model at the start of a training."""
        raise CannotTrainError(f"{cls.name} uses models without changing them: there is nothing to train")

    @abstractmethod
    def save(self, model: Model, folder: Path) -> None:
        """Write `model` into `folder`, which exists, so that a loaded model gives the same recommendations.

        Its `config.json` declares the paradigm: as `{"mmgrid": {"paradigm": NAME}}`, or by the spec's `model_type`.
        """

    def facts(self, model: Model) -> dict[str, Any]:
        """Entries of the checkpoint's `mmgrid.json` in addition to those of every checkpoint (see `facts`)."""
        return {}

    @classmethod
    def moved_token_rows(
        cls, checkpoints: Mapping[str, Mapping[str, Path]], base: Path, seed: int
    ) -> dict[str, dict[str, np.ndarray]]:
        """The change of each domain's own token rows since initialisation, by phase and domain: float32 [rows, width].

        Only for a paradigm whose spec says `own_token_rows`.

        Args:
            checkpoints: folders by phase and domain.
            base: the folder of Θ⁽⁰⁾.
            seed: of the grid.
        """
        raise NotImplementedError(f"{cls.name} has own token rows, but does not implement `moved_token_rows`")

    # ---- training ----------------------------------------------------------------------------------------------

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> Examples:
        """Training examples whose targets lie in `phase`.

        Raises LeakageError if the histories contain an interaction at or after the phase's end.
        """
        raise CannotTrainError(f"{self.name} uses models without changing them: there is nothing to train")

    def beside_adapter(self, model: Model) -> Mapping[str, int]:
        """What is trained beside a LoRA adapter (the recipe's `lora`): name of a tensor → the first row that is
        trained, 0 for all of it. Default: nothing.
        """
        return {}

    def loss(self, model: Model, batch: dict[str, Any]) -> Tensor:
        """Mean loss of a collated batch: a scalar.

        It must call the model itself, `model(...)`, instead of its parts: only then does the recipe's precision apply.
        """
        raise CannotTrainError(f"{self.name} uses models without changing them: there is nothing to train")

    # ---- learning how to merge ---------------------------------------------------------------------------------

    def next_items(self, histories: Histories, items: Items, phase: Phase, *, batch_size: int, seed: int) -> Examples:
        """Examples that ask for the items of `phase` after those before it, and for nothing else, whatever there is of
        them before; `batch_size` of them make a batch. Default: the training examples.

        Raises LeakageError if the histories contain an interaction at or after the phase's end.
        """
        return self.examples(histories, items, phase, seed)

    def predictions(self, model: Model, batch: dict[str, Any]) -> list[Predictions]:
        """The distributions whose cross-entropy `loss` averages, with gradients: one entry for each kind of choice.

        Only for paradigms whose models can be merged with learned weights.
        """
        raise CannotTrainError(
            f"{self.name} does not say what its models expect (`predictions`), so nothing is learned"
        )

    # ---- recommending ------------------------------------------------------------------------------------------

    def prepare(self, known: Known, needs: Mapping[str, Any], seed: int = 0) -> None:
        """Prepare for an evaluation or for recommendations. Called before `rank` and `recommend`.

        Args:
            known: the catalogue and the interactions of that time; a `HeldOut` before `rank`.
            needs: the spec's `evaluation_needs` by name. Some may be missing, such as `title_vectors` for a checkpoint
                outside a store: then the paradigm does without them, or raises ValueError.
            seed: of random samples.
        """

    @abstractmethod
    def rank(self, model: Model, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        """Full rank of each user's target, from 0, or NOT_RANKED: int64 [users]."""

    @abstractmethod
    def recommend(self, model: Model, histories: Histories, items: Items, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best items outside each history: item rows int64 [users, k], scores float32 [users, k].

        Rows with fewer than k items are padded with -1 and -inf.
        """
