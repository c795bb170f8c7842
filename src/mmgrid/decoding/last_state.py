"""Computes only the last position's hidden state of a prompt in the last layer.

A search needs the state after the prompt. For the other positions the last layer only has to write keys and values to
the cache; attention and feed-forward block are skipped. In a model of few layers that saves much of the work.

Shape letters: B prompts, P prompt tokens, H query heads, d head width, D width.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "mmgrid_unseen"
# The parts of a layer of Llama, Qwen, Mistral and similar models, in which attention reads the first norm's output.
LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


def last_state_only(decoder: Any) -> AbstractContextManager[Any]:
    """Within this context, a decoder that reads prompts into an empty cache returns the last position only: [B, 1, D].

    A decoder whose layers differ from those of Llama is left unchanged and returns all positions.
    """
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or {name for name, _ in layers[-1].named_children()} != LAYER_PARTS:
        return nullcontext()
    return layers[-1].register_forward_pre_hook(_leave_keys_and_values, with_kwargs=True)


def _leave_keys_and_values(layer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Pre-hook of the last layer: cache keys and values of all positions but the last, pass only the last to the layer."""
    hidden: Tensor = given[0]
    cos, sin = named["position_embeddings"]
    mask: Tensor | None = named.get("attention_mask")
    if hidden.shape[1] > 1:
        before = named | {"position_embeddings": (cos[:, :-1], sin[:, :-1]), "attention_mask": None}
        with _skipping_attention(layer.self_attn.config):
            layer.self_attn(hidden_states=layer.input_layernorm(hidden[:, :-1]), **_without_positions(before))
    named = named | {
        "position_embeddings": (cos[:, -1:], sin[:, -1:]),
        "attention_mask": None if mask is None else mask[:, :, -1:],
    }
    return (hidden[:, -1:], *given[1:]), _without_positions(named)


def _without_positions(named: dict[str, Any]) -> dict[str, Any]:
    """Without `position_ids`: the position embeddings suffice, and the ids would cover all positions."""
    return {name: value for name, value in named.items() if name != "position_ids"}


@contextmanager
def _skipping_attention(config: PreTrainedConfig) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation_internal = NAME  # every layer reads it again
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def skip_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """query [B, H, P, d], value [B, …, e] → zeros [B, P, H, e], which are never read."""
    zeros = torch.zeros((), dtype=query.dtype, device=query.device)
    return zeros.expand(*query.shape[:-1], value.shape[-1]).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(NAME, skip_attention)
