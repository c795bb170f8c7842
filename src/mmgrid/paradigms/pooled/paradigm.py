"""The paradigm `pooled`: any language model as a recommender, without training.

An item's vector is the mean of the model's last hidden states over its text, minus the catalogue's mean. A user's
vector is the mean of the newest items. So published language models can be evaluated and merged over time, and trained
paradigms have a baseline.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.pooling import text_vectors
from mmgrid.data import Histories, Items
from mmgrid.paradigms.shared.dot_product import check_histories
from mmgrid.paradigms.shared.embedding import Embedding, Vectors

HISTORY_LENGTH = 25
TEXT_TOKENS = 64
GATHERED = 1 << 24  # numbers of item vectors that are added up at once: 64 MiB


class Pooled(Embedding[PreTrainedModel]):
    """pooled as a paradigm."""

    name = "pooled"

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, recipe: Any = None, domain: str | None = None) -> tuple["Pooled", PreTrainedModel]:
        return cls(load_tokenizer(folder)), load_model(folder, head=False)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def vectors(self, model: PreTrainedModel, items: Items) -> Vectors:
        found = self.item_vectors(model, items)
        return Vectors(found, partial(self.user_vectors, found))

    def vectors_of(self, model: PreTrainedModel, items: Items, others: Items) -> Tensor:
        return F.normalize(self._hidden(model, others) - self._mean(self._hidden(model, items), items), dim=-1)

    def item_vectors(self, model: PreTrainedModel, items: Items) -> Tensor:
        """float32 [N, D] of length 1. The mean over the candidates is subtracted: hidden states share one direction."""
        hidden = self._hidden(model, items)
        return F.normalize(hidden - self._mean(hidden, items), dim=-1)

    def _hidden(self, model: PreTrainedModel, items: Items) -> Tensor:
        texts = [f"{title} {text}".strip() for title, text in zip(items.titles, items.descriptions, strict=True)]
        return torch.from_numpy(text_vectors(model, self.tokenizer, texts, TEXT_TOKENS)).to(model.device)

    @staticmethod
    def _mean(hidden: Tensor, items: Items) -> Tensor:
        return hidden[torch.as_tensor(items.candidates)].mean(0)

    def user_vectors(self, vectors: Tensor, histories: Histories) -> Tensor:
        """The mean of the newest items' vectors, scaled to length 1: float32 [U, D]."""
        check_histories(histories)
        recent = histories.last(HISTORY_LENGTH)
        owner = torch.as_tensor(np.repeat(np.arange(len(recent)), recent.lengths), device=vectors.device)
        rows = torch.as_tensor(np.asarray(recent.items, np.int64), device=vectors.device)
        sums = vectors.new_zeros(len(recent), vectors.shape[1])
        at_once = max(1, GATHERED // vectors.shape[1])
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            sums.index_add_(0, owner[part], vectors[rows[part]])
        return F.normalize(sums, dim=-1)
