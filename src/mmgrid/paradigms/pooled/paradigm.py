"""The paradigm `pooled`: any language model as it is, without training; items by their text, users by their items.

An item is the mean of the model's last hidden states over its text, less the catalogue's mean; a user is the mean of
the newest items.  So checkpoints that somebody else trained for text can be ranked and merged across time, and it is
what a paradigm that is trained must beat.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.pooling import text_vectors
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms.shared.dot_product import check_histories, dense_ranks, dense_top

HISTORY_LENGTH = 25
TEXT_TOKENS = 64


class CannotTrainError(RuntimeError):
    """The paradigm has nothing to train: it takes a language model as it is."""

    def __init__(self) -> None:
        super().__init__("pooled takes a language model as it is: there is nothing to train")


class Pooled:
    """pooled as a paradigm: see `mmgrid.paradigms.contract.Paradigm`."""

    name: Literal["pooled"] = "pooled"

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> tuple["Pooled", PreTrainedModel]:
        return cls(load_tokenizer(folder)), load_model(folder, head=False)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> Any:
        raise CannotTrainError

    def loss(self, model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
        raise CannotTrainError

    def rank(self, model: PreTrainedModel, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        vectors = self.item_vectors(model, items)
        return dense_ranks(self.user_vectors(vectors, histories), vectors, histories, items, targets)

    def recommend(
        self, model: PreTrainedModel, histories: Histories, items: Items, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        vectors = self.item_vectors(model, items)
        return dense_top(self.user_vectors(vectors, histories), vectors, histories, items, k)

    def item_vectors(self, model: PreTrainedModel, items: Items) -> Tensor:
        """float32 [N, D] of length 1, with the mean over the candidates taken out: hidden states share a direction."""
        texts = [f"{title} {text}".strip() for title, text in zip(items.titles, items.descriptions, strict=True)]
        vectors = torch.from_numpy(text_vectors(model, self.tokenizer, texts, TEXT_TOKENS)).to(model.device)
        return F.normalize(vectors - vectors[torch.as_tensor(items.candidates)].mean(0), dim=-1)

    def user_vectors(self, vectors: Tensor, histories: Histories) -> Tensor:
        """float32 [U, D]: the mean of the newest items' vectors."""
        check_histories(histories)
        recent = histories.last(HISTORY_LENGTH)
        owner = torch.as_tensor(np.repeat(np.arange(len(recent)), recent.lengths), device=vectors.device)
        rows = torch.as_tensor(np.asarray(recent.items, np.int64), device=vectors.device)
        sums = vectors.new_zeros(len(recent), vectors.shape[1]).index_add_(0, owner, vectors[rows])
        return F.normalize(sums, dim=-1)
