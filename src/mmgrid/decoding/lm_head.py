"""Logits from a language model's head, for the whole vocabulary or for selected tokens only."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmgrid.backbone.trained_rows import TrainedRows


def vocabulary_of(model: nn.Module) -> int:
    """How many tokens a language model chooses from; also of one within DistributedDataParallel."""
    inner: Any = getattr(model, "module", model)
    return inner.config.get_text_config().vocab_size


def lm_head_logits(model: PreTrainedModel, hidden: Tensor, token_ids: Tensor | None = None) -> Tensor:
    """Logits float32 [..., V] for last hidden states [..., D], as the model's own forward pass computes them.

    With `token_ids` [R], only the logits of these tokens: [..., R].
    """
    head = model.get_output_embeddings()
    assert head is not None  # a causal language model has one
    if isinstance(head, TrainedRows):
        found = head.logits(hidden, token_ids).float()
    else:
        weight, bias = head.weight, getattr(head, "bias", None)
        if token_ids is not None:
            weight, bias = weight[token_ids], None if bias is None else bias[token_ids]
        found = torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias).float()
    config = model.config
    if scale := getattr(config, "logit_scale", None):  # Cohere
        found = found * scale
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        found = found / divisor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        found = cap * torch.tanh(found / cap)
    return found
