"""Text vectors from a plain language model: the mean of its last hidden states, or that of the last token."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.plain_tokens import plain_tokens

BATCH = 256


@torch.no_grad()
def text_vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    most_tokens: int | None,
    *,
    pooling: Literal["mean", "last"] = "mean",
    special_tokens: bool = False,
) -> np.ndarray:
    """Pooled last hidden states: float32 [texts, width]; zeros for a text without tokens.

    Args:
        model: a language model without its head.
        most_tokens: maximum tokens per text; the rest is cut off. None: no limit.
        pooling: the mean over a text's tokens, or the state of its last token.
        special_tokens: add the tokenizer's special tokens, such as one that begins a text.
    """
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    encoded = plain_tokens(tokenizer, texts, add_special_tokens=special_tokens)
    tokens = [row[:most_tokens] for row in encoded]
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))  # texts of equal length need no padding
    filled = [row for row in order if tokens[row]]
    with evaluating(model):
        for start in range(0, len(filled), BATCH):
            rows = filled[start : start + BATCH]
            length = len(tokens[rows[-1]])
            ids = torch.zeros(len(rows), length, dtype=torch.long)
            mask = torch.zeros(len(rows), length, dtype=torch.long)
            for place, row in enumerate(rows):
                ids[place, : len(tokens[row])] = torch.tensor(tokens[row])
                mask[place, : len(tokens[row])] = 1
            ids, mask = ids.to(model.device), mask.to(model.device)
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            if pooling == "last":
                pooled = hidden[torch.arange(len(rows), device=hidden.device), mask.sum(1) - 1]
            else:
                weights = mask.unsqueeze(-1).float()
                pooled = (hidden * weights).sum(1) / weights.sum(1)
            vectors[rows] = pooled.cpu().numpy()
    return vectors
