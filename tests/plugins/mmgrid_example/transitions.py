"""The paradigm `transitions`: the next item follows from the newest ones, each with a vector of what comes after it.

Source: the factorised Markov chain of Rendle et al. 2010 (FPMC without its user part), trained with cross-entropy over
the whole catalogue. A user is the sum of the newest items' vectors, of which the a-th newest counts 1 / a:

    score(j) = Σₐ beforeᵢₐ · afterⱼ / a

Shape letters: B users, N items, D width.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms import (
    Paradigm,
    ParadigmSpec,
    PhaseValues,
    Predictions,
    Recipe,
    Targets,
    TrainingStart,
    check_histories,
    dense_ranks,
    dense_top,
    targets,
)
from mmgrid.seeds import derive

NAME = "transitions"


class TransitionsRecipe(Recipe):
    """The values that `[paradigms.transitions]` of a grid file may set, with their defaults."""

    width: int = Field(default=32, gt=0)
    epochs: PhaseValues = PhaseValues(pretrain=10, phase1=3, phase2=3)
    learning_rate: PhaseValues = PhaseValues(pretrain=1e-2, phase1=5e-3, phase2=5e-3)
    batch_size: int = Field(default=128, gt=0)


class TransitionsSpec(ParadigmSpec):
    """What a grid knows of the paradigm before anything is built."""

    name = NAME
    implementation = f"{__name__}:Transitions"
    recipe = TransitionsRecipe
    seconds = (1e-4, 2e-4)


SPEC = TransitionsSpec()


class TransitionsModel(nn.Module):
    """Two vectors per item: `before` for the item as part of a history, `after` for the item as the next one."""

    def __init__(self, n_items: int, width: int, history_length: int):
        super().__init__()
        self.shape = {"items": n_items, "width": width, "history_length": history_length}
        self.before = nn.EmbeddingBag(n_items, width, mode="sum")
        self.after = nn.Embedding(n_items, width)

    def users(self, items: Tensor, starts: Tensor, shares: Tensor) -> Tensor:
        """The user vectors [B, D] of histories laid end to end: item rows, where each begins, each item's share."""
        return self.before(items, starts, per_sample_weights=shares)

    def forward(self, items: Tensor, starts: Tensor, shares: Tensor, targets: Tensor, closed: Tensor) -> Tensor:
        """Mean cross-entropy of the targets (item rows [B]) over all items but the `closed` ones (bool [N])."""
        return F.cross_entropy(self.logits(items, starts, shares, closed), targets)

    def logits(self, items: Tensor, starts: Tensor, shares: Tensor, closed: Tensor) -> Tensor:
        """Of all items after each history: [B, N]."""
        logits = self.users(items, starts, shares) @ self.after.weight.T
        return logits.float().masked_fill(closed, float("-inf"))


class Transitions(Paradigm[TransitionsModel]):
    """Item-to-item transitions as a paradigm."""

    name = NAME

    def __init__(self, history_length: int):
        self.history_length = history_length

    @classmethod
    def start(cls, recipe: TransitionsRecipe, start: TrainingStart) -> tuple["Transitions", TransitionsModel]:
        if start.folder is not None:  # the checkpoint of the phase before
            return cls.load(start.folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(start.seed, NAME))
            model = TransitionsModel(len(start.items), recipe.width, recipe.history_length)
            for weight in model.parameters():
                nn.init.normal_(weight, std=recipe.width**-0.5)
        return cls(recipe.history_length), model

    # ---- the folder of a checkpoint ----------------------------------------------------------------------------

    def save(self, model: TransitionsModel, folder: Path) -> None:
        config = {"mmgrid": {"paradigm": NAME, **model.shape}}
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(
        cls, folder: Path, recipe: Any = None, domain: str | None = None
    ) -> tuple["Transitions", TransitionsModel]:
        shape = json.loads((folder / "config.json").read_text())["mmgrid"]
        model = TransitionsModel(shape["items"], shape["width"], shape["history_length"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return cls(shape["history_length"]), model

    # ---- training ----------------------------------------------------------------------------------------------

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> "TransitionsExamples":
        found = targets(histories, phase, earlier=1, most_per_user=None, seed=seed)
        return TransitionsExamples(found, items, self.history_length)

    def loss(self, model: TransitionsModel, batch: dict[str, Tensor]) -> Tensor:
        return model(**batch)

    def predictions(self, model: TransitionsModel, batch: dict[str, Tensor]) -> list[Predictions]:
        """For merges with learned weights; a paradigm without them leaves it out."""
        asked = {name: value for name, value in batch.items() if name != "targets"}
        return [Predictions(model.logits(**asked), batch["targets"])]

    # ---- recommending ------------------------------------------------------------------------------------------

    def rank(self, model: TransitionsModel, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        users = self._users(model, histories, items)
        return dense_ranks(users, model.after.weight.detach(), histories, items, targets)

    def recommend(
        self, model: TransitionsModel, histories: Histories, items: Items, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        users = self._users(model, histories, items)
        return dense_top(users, model.after.weight.detach(), histories, items, k)

    @torch.no_grad()
    def _users(self, model: TransitionsModel, histories: Histories, items: Items) -> Tensor:
        """float32 [B, D]."""
        if len(items) != model.shape["items"]:
            raise ValueError(f"the model knows {model.shape['items']} items, and the domain has {len(items)}")
        check_histories(histories)
        recent = histories.last(self.history_length)
        laid = laid_end_to_end([recent.of(user) for user in range(len(recent))])
        return model.users(*(tensor.to(model.after.weight.device) for tensor in laid.values()))


class TransitionsExamples:
    """One example per interaction of the phase: the items before it, and its own. Nothing is drawn at random."""

    def __init__(self, found: Targets, items: Items, history_length: int):
        self.found = found
        self.history_length = history_length
        self.closed = torch.from_numpy(~items.is_candidate())

    def __len__(self) -> int:
        return len(self.found)

    def draw(self, index: int, epoch: int) -> tuple[np.ndarray, int]:
        return self.found.context(index, self.history_length), self.found.item(index)

    def collate(self, drawn: Sequence[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
        contexts, items = zip(*drawn, strict=True)
        return {**laid_end_to_end(contexts), "targets": torch.tensor(items), "closed": self.closed}


def laid_end_to_end(histories: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
    """Item rows of all histories, where each history begins, and each item's share: 1 for a user's newest item."""
    lengths = np.array([len(history) for history in histories], np.int64)
    starts = np.cumsum(lengths) - lengths
    ages = np.repeat(starts + lengths, lengths) - np.arange(lengths.sum())
    return {
        "items": torch.from_numpy(np.concatenate([np.empty(0, np.int64), *histories]).astype(np.int64)),
        "starts": torch.from_numpy(starts),
        "shares": torch.from_numpy((1 / ages).astype(np.float32)),
    }
