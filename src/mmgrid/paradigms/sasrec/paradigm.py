"""The baseline `sasrec`: item embeddings without text, cross-entropy over the whole catalogue."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.load import whole_model
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms.contract import Predictions, TrainingStart
from mmgrid.paradigms.sasrec.model import SasrecConfig, SasrecModel
from mmgrid.paradigms.sasrec.spec import SasrecRecipe
from mmgrid.paradigms.shared.dot_product import check_histories
from mmgrid.paradigms.shared.embedding import Embedding, Vectors
from mmgrid.paradigms.shared.padding import pad_right
from mmgrid.paradigms.shared.windows import Windows, target_mask, windows
from mmgrid.seeds import derive

ENCODE_USERS = 2048  # users per block


class Sasrec(Embedding[SasrecModel]):
    """SASRec as a paradigm."""

    name = "sasrec"

    def __init__(self, history_length: int, recipe: SasrecRecipe | None = None):
        self.history_length = history_length
        self.recipe = recipe or SasrecRecipe()

    @staticmethod
    def create(recipe: SasrecRecipe, items: Items, seed: int) -> SasrecModel:
        """An untrained model over all rows of `items`."""
        config = SasrecConfig(
            n_items=len(items),
            hidden_size=recipe.hidden_size,
            layers=recipe.layers,
            heads=recipe.heads,
            intermediate_size=recipe.intermediate_size,
            dropout=recipe.dropout,
            history_length=recipe.history_length,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "sasrec"))
            return SasrecModel(config)

    @classmethod
    def start(cls, recipe: SasrecRecipe, start: TrainingStart) -> tuple["Sasrec", SasrecModel]:
        if start.folder is not None:
            return cls.load(start.folder, recipe)
        return cls(recipe.history_length, recipe), cls.create(recipe, start.items, start.seed)

    @classmethod
    def load(
        cls, folder: Path, recipe: SasrecRecipe | None = None, domain: str | None = None
    ) -> tuple["Sasrec", SasrecModel]:
        model = whole_model(SasrecModel, folder, dtype=torch.float32)
        return cls(model.config.history_length, recipe), model

    def save(self, model: SasrecModel, folder: Path) -> None:
        model.save_pretrained(str(folder))

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> "SasrecExamples":
        return SasrecExamples(windows(histories, phase, self.history_length), items, self.history_length)

    def loss(self, model: SasrecModel, batch: dict[str, Any]) -> Tensor:
        return model(**batch)

    def predictions(self, model: SasrecModel, batch: dict[str, Any]) -> list[Predictions]:
        return [Predictions(*model.predictions(**batch))]

    def vectors(self, model: SasrecModel, items: Items) -> Vectors:
        self._check(model, items)
        return Vectors(model.items.weight.detach(), partial(self._users, model))

    def vectors_of(self, model: SasrecModel, items: Items, others: Items) -> Tensor:
        self._check(model, items)
        rows = {item: row for row, item in enumerate(items.ids.tolist())}
        if unknown := [item for item in others.ids.tolist() if item not in rows]:
            raise ValueError(
                f"{', '.join(map(repr, unknown[:3]))}: not among the items that this SASRec was trained with; it knows "
                "items by their ids, so new ones have no vector"
            )
        return model.items.weight.detach()[[rows[item] for item in others.ids.tolist()]]

    @staticmethod
    def _check(model: SasrecModel, items: Items) -> None:
        if len(items) != model.config.n_items:
            raise ValueError(
                f"this SASRec has {model.config.n_items} items, but the domain has {len(items)}; use the prepared "
                "domain that it was trained on"
            )

    @torch.no_grad()
    def _users(self, model: SasrecModel, histories: Histories) -> Tensor:
        """The state at each history's newest item: float32 [U, D]."""
        check_histories(histories)
        recent = histories.last(self.history_length)
        blocks = []
        with evaluating(model):
            for start in range(0, len(recent), ENCODE_USERS):
                sequences = [np.asarray(recent.of(i)) for i in range(start, min(start + ENCODE_USERS, len(recent)))]
                newest = torch.tensor([len(sequence) - 1 for sequence in sequences], device=model.device)
                hidden = model.encode_users(torch.from_numpy(pad_right(sequences)).to(model.device))
                blocks.append(hidden[torch.arange(len(sequences), device=model.device), newest])
        return torch.cat(blocks or [model.items.weight[:0]]).float()


class SasrecExamples:
    """One example per window; nothing is random."""

    def __init__(self, windows: Windows, items: Items, history_length: int):
        self.windows = windows
        self.times = windows.times
        self.width = history_length + 1
        self.closed = torch.ones(len(items), dtype=torch.bool)
        self.closed[torch.as_tensor(items.candidates)] = False

    def __len__(self) -> int:
        return len(self.windows)

    def draw(self, index: int, epoch: int) -> tuple[np.ndarray, int]:
        return self.windows.sequence(index), self.windows.n_context(index)

    def units(self, drawn: Sequence[tuple[np.ndarray, int]]) -> int:
        """The number of targets."""
        return sum(len(sequence) - n_context for sequence, n_context in drawn)

    def collate(self, drawn: Sequence[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
        sequences, n_context = zip(*drawn, strict=True)
        return {
            "sequences": torch.from_numpy(pad_right(list(sequences))),
            "is_target": target_mask(sequences, n_context),
            "closed": self.closed,
        }
