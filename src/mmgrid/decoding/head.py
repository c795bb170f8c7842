"""A language model's head, of all token rows or of some of them: what its own forward would give, and no more."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def logits(model: PreTrainedModel, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
    """Logits float32 [..., V] of the decoder's last hidden states [..., D], or [..., R] of the token ids `rows` [R]."""
    head = model.get_output_embeddings()
    assert head is not None  # a causal language model has one
    weight, bias = head.weight, getattr(head, "bias", None)
    if rows is not None:
        weight, bias = weight[rows], None if bias is None else bias[rows]
    found = torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias).float()
    config = model.config
    if scale := getattr(config, "logit_scale", None):  # Cohere
        found = found * scale
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        found = found / divisor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        found = cap * torch.tanh(found / cap)
    return found
