"""The paradigm `pooled`: any language model as a recommender, without training.

An item's vector is the mean of the model's last hidden states over its text, minus the catalogue's mean. A user's
vector is the mean of the newest items. So published language models can be evaluated and merged over time, and trained
paradigms have a baseline.
"""

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
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.shared.dot_product import check_histories, dense_ranks, dense_top

HISTORY_LENGTH = 25
TEXT_TOKENS = 64
GATHERED = 1 << 24  # numbers of item vectors that are added up at once: 64 MiB


class Pooled(Paradigm[PreTrainedModel]):
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

    def rank(self, model: PreTrainedModel, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        vectors = self.item_vectors(model, items)
        return dense_ranks(self.user_vectors(vectors, histories), vectors, histories, items, targets)

    def recommend(
        self, model: PreTrainedModel, histories: Histories, items: Items, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        vectors = self.item_vectors(model, items)
        return dense_top(self.user_vectors(vectors, histories), vectors, histories, items, k)

    def item_vectors(self, model: PreTrainedModel, items: Items) -> Tensor:
        """float32 [N, D] of length 1. The mean over the candidates is subtracted: hidden states share one direction."""
        texts = [f"{title} {text}".strip() for title, text in zip(items.titles, items.descriptions, strict=True)]
        vectors = torch.from_numpy(text_vectors(model, self.tokenizer, texts, TEXT_TOKENS)).to(model.device)
        return F.normalize(vectors - vectors[torch.as_tensor(items.candidates)].mean(0), dim=-1)

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
