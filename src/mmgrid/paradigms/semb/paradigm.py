"""The semantic-embedding paradigm `semb` (HLLM, Chen et al. 2024): vectors of items from their texts, and of users from
their items.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.load import load_model, load_tokenizer, whole_model
from mmgrid.backbone.plain_tokens import plain_tokens
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms.contract import Predictions, TrainingStart
from mmgrid.paradigms.semb.examples import SembExamples
from mmgrid.paradigms.semb.model import SAME_ITEM_COSINE, SembConfig, SembModel
from mmgrid.paradigms.semb.spec import MODEL_VALUES, SembRecipe
from mmgrid.paradigms.shared.dot_product import check_histories
from mmgrid.paradigms.shared.embedding import Embedding, Vectors
from mmgrid.paradigms.shared.packing import TokenTable, pack
from mmgrid.paradigms.shared.padding import pad_right
from mmgrid.paradigms.shared.windows import windows
from mmgrid.training.errors import TrainingError

# Items and users per block, by kind of device: activations should stay in a CPU's cache, and must fill a GPU.
ENCODE_ITEMS = {"cpu": 128, "cuda": 2048}
ENCODE_USERS = {"cpu": 256, "cuda": 2048}
# Training stops if more than this share of the negatives is masked in this many consecutive batches. For a few batches
# that is normal: early steps move all vectors together, and most models recover (docs/LOG.md).
MASKED_LIMIT = 0.95
MASKED_STEPS = 50
MASKED_WARNING = 5  # consecutive batches after which a warning tells of it, as shorter trainings end before the error

logger = logging.getLogger(__name__)


class Semb(Embedding[SembModel]):
    """semb as a paradigm."""

    name = "semb"

    def __init__(self, config: SembConfig, tokenizer: PreTrainedTokenizerBase, recipe: SembRecipe | None = None):
        self.config = config
        self.tokenizer = tokenizer
        self.recipe = recipe or SembRecipe()
        self._tokens: tuple[Items, TokenTable] | None = None
        self._masked_steps = 0  # not stored in step checkpoints: a resumed training counts from 0
        self._warned = False

    @classmethod
    def create(
        cls, recipe: SembRecipe, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> tuple["Semb", SembModel]:
        """Θ⁽⁰⁾: the untrained two-tower model over a backbone, the same for all domains of a grid."""
        options = {name: getattr(recipe, name) for name in (*MODEL_VALUES, "prompt_counts")}
        model = SembModel.over(backbone, seed, **options)
        return cls(model.config, tokenizer, recipe), model

    @classmethod
    def write_base(cls, recipe: SembRecipe, backbone: Path, folder: Path, seed: int) -> SembModel:
        paradigm, model = cls.create(recipe, load_model(backbone, head=False), load_tokenizer(backbone), seed)
        paradigm.save(model, folder)
        return model

    @classmethod
    def start(cls, recipe: SembRecipe, start: TrainingStart) -> tuple["Semb", SembModel]:
        assert start.folder is not None  # at least its base
        paradigm, model = cls.load(start.folder, recipe)
        model.rows_at_once, model.parts = recipe.rows_at_once, recipe.parts
        return paradigm, model

    @classmethod
    def load(
        cls, folder: Path, recipe: SembRecipe | None = None, domain: str | None = None
    ) -> tuple["Semb", SembModel]:
        model = whole_model(SembModel, folder, dtype=torch.float32)
        return cls(model.config, load_tokenizer(folder), recipe), model

    def save(self, model: SembModel, folder: Path) -> None:
        model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> SembExamples:
        found = windows(histories, phase, self.config.history_length, self.recipe.targets)
        return SembExamples(found, self.tokens(items), items.candidates, self.recipe, seed)

    def next_items(
        self, histories: Histories, items: Items, phase: Phase, *, batch_size: int, seed: int
    ) -> SembExamples:
        found = windows(histories, phase, self.config.history_length)
        recipe = self.recipe.model_copy(update={"batch_size": batch_size, "accumulation": 1})
        return SembExamples(found, self.tokens(items), items.candidates, recipe, seed)

    def beside_adapter(self, model: SembModel) -> dict[str, int]:
        """The [ITEM] vector and the scale, which belong to no layer."""
        return {"item_token": 0, "log_scale": 0}

    def loss(self, model: SembModel, batch: dict[str, Any]) -> Tensor:
        loss, masked = model(**batch)
        self._masked_steps = self._masked_steps + 1 if masked > MASKED_LIMIT else 0
        if self._masked_steps == MASKED_WARNING and not self._warned:
            self._warned = True
            logger.warning(
                "more than %.0f %% of the negatives are masked, in %d consecutive batches: the item vectors lie nearly in "
                "one direction (cosines above %s), and little is learned while they do. If it lasts, lower the learning "
                "rate, warm up for longer (warmup_ratio), or pre-train the backbone for longer",
                100 * MASKED_LIMIT,
                MASKED_WARNING,
                SAME_ITEM_COSINE,
            )
        if self._masked_steps >= MASKED_STEPS:
            raise TrainingError(
                f"{masked:.0%} of the negatives are masked, in {MASKED_STEPS} consecutive batches: the item vectors "
                f"have collapsed into one direction (cosines above {SAME_ITEM_COSINE}). Lower the learning rate, warm "
                "up for longer (warmup_ratio), or pre-train the backbone for longer"
            )
        return loss

    def predictions(self, model: SembModel, batch: dict[str, Any]) -> list[Predictions]:
        """Among the next item and the batch's negatives; the next item comes first."""
        logits, _ = model.predictions(**batch)
        return [Predictions(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))]

    def vectors(self, model: SembModel, items: Items) -> Vectors:
        found = self.item_vectors(model, items)
        return Vectors(F.normalize(found, dim=-1), partial(self.user_vectors, model, found))

    @torch.no_grad()
    def item_vectors(self, model: SembModel, items: Items) -> Tensor:
        """Vectors of the whole catalogue, encoded once: float32 [N, D], not normalised."""
        table = self.tokens(items)
        order = np.argsort(-table.lengths(np.arange(len(items))), kind="stable")  # blocks of equal length pack best
        vectors = torch.empty(len(items), model.item_token.shape[0], device=model.device)
        at_once = ENCODE_ITEMS.get(model.device.type, 2048)
        with evaluating(model):
            for start in range(0, len(order), at_once):
                rows = order[start : start + at_once]
                packed = {name: tensor.to(model.device) for name, tensor in pack(table, rows).tensors().items()}
                vectors[torch.from_numpy(rows).to(model.device)] = model.encode_items(**packed).float()
        return vectors

    @torch.no_grad()
    def user_vectors(self, model: SembModel, vectors: Tensor, histories: Histories) -> Tensor:
        """The user tower's state at each history's newest item, scaled to length 1: float32 [U, D]."""
        check_histories(histories)
        recent = histories.last(self.config.history_length)
        order = np.argsort(recent.lengths, kind="stable")  # items of equal length need no padding
        users = torch.empty(len(recent), vectors.shape[1], device=model.device)
        at_once = ENCODE_USERS.get(model.device.type, 2048)
        with evaluating(model):
            for start in range(0, len(order), at_once):
                rows = order[start : start + at_once]
                sequences = [np.asarray(recent.of(row)) for row in rows.tolist()]
                newest = torch.tensor([len(sequence) - 1 for sequence in sequences], device=model.device)
                hidden = model.encode_users(vectors[torch.from_numpy(pad_right(sequences)).to(model.device)])
                last = hidden[torch.arange(len(sequences), device=model.device), newest]
                users[torch.from_numpy(rows).to(model.device)] = last.float()
        return F.normalize(users, dim=-1)

    def tokens(self, items: Items) -> TokenTable:
        """Token ids of all items' texts; cached, since a sweep uses the same items for every model."""
        if self._tokens is None or self._tokens[0] is not items:
            self._tokens = (items, self._tokenise(items))
        return self._tokens[1]

    def _tokenise(self, items: Items) -> TokenTable:
        """Title and description within `text_tokens`; the description is cut first, then the title."""
        if self.config.text_keys:
            return self._official_tokens(items, self.config.text_keys)
        prompt = self.tokenizer(f"{self.config.prompt} title:".strip(), add_special_tokens=False)["input_ids"]
        limit = self.config.text_tokens - (len(prompt) if self.config.prompt_counts else 0)
        if limit < 1:
            raise ValueError(
                f"text_tokens {self.config.text_tokens}: the prompt has {len(prompt)} tokens, and prompt_counts leaves "
                "none for an item's text; raise text_tokens"
            )
        titles = plain_tokens(self.tokenizer, [f" {title}" for title in items.titles])
        described = [i for i, description in enumerate(items.descriptions) if description]
        texts = [title[: min(self.config.title_tokens, limit)] for title in titles]
        descriptions = plain_tokens(self.tokenizer, [f" description: {items.descriptions[i]}" for i in described])
        for i, description in zip(described, descriptions, strict=True):
            texts[i] = (texts[i] + description)[:limit]
        return TokenTable.of(prompt, texts)

    def _official_tokens(self, items: Items, keys: Sequence[str]) -> TokenTable:
        """As HLLM's official code: one text per item, with special tokens; `text_tokens` covers the prompt, too."""
        fields = {"title": items.titles, "description": items.descriptions}
        texts = [self.config.prompt] * len(items)
        for key in keys:
            values = fields[key.strip()]
            texts = [f"{text}{key}: {value}" if value else text for text, value in zip(texts, values, strict=True)]
        rows = [row[: self.config.text_tokens] for row in self.tokenizer(texts)["input_ids"]] if texts else []
        ends = zip(min(rows), max(rows), strict=False) if rows else ()
        common = next((place for place, (one, other) in enumerate(ends) if one != other), 0)  # packed once per row
        return TokenTable.of(rows[0][:common] if rows else [], [row[common:] for row in rows])
