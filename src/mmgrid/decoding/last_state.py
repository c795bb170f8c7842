"""Only the state behind a prompt is asked for: the last layer need not compute any other.

Of the prompt's other places the last layer has to leave keys and values in the cache, and nothing else: no attention, no
feed-forward block. In a model of few layers that is a good part of all the work.

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
# What a layer of Llama, Qwen, Mistral and their kin consists of: its attention reads the first norm's output.
LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


def last_state_only(decoder: Any) -> AbstractContextManager[Any]:
    """Within, a decoder that reads prompts into an empty cache returns the state of the last place alone: [B, 1, D].

    Where its layers are built otherwise than those of Llama, nothing changes, and all states are returned.
    """
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or {name for name, _ in layers[-1].named_children()} != LAYER_PARTS:
        return nullcontext()
    return layers[-1].register_forward_pre_hook(_leave_keys_and_values, with_kwargs=True)


def _leave_keys_and_values(layer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Before the last layer: all places but the last one into its cache, then the last one alone to the layer."""
    hidden: Tensor = given[0]
    cos, sin = named["position_embeddings"]
    mask: Tensor | None = named.get("attention_mask")
    if hidden.shape[1] > 1:
        before = named | {"position_embeddings": (cos[:, :-1], sin[:, :-1]), "attention_mask": None}
        with _unseen(layer.self_attn.config):
            layer.self_attn(hidden_states=layer.input_layernorm(hidden[:, :-1]), **_without_positions(before))
    named = named | {
        "position_embeddings": (cos[:, -1:], sin[:, -1:]),
        "attention_mask": None if mask is None else mask[:, :, -1:],
    }
    return (hidden[:, -1:], *given[1:]), _without_positions(named)


def _without_positions(named: dict[str, Any]) -> dict[str, Any]:
    """Positions are in the embeddings already; as numbers they would be of all places."""
    return {name: value for name, value in named.items() if name != "position_ids"}


@contextmanager
def _unseen(config: PreTrainedConfig) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation_internal = NAME  # read anew in every layer
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def attend_to_nothing(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """query [B, H, P, d], value [B, …, e] → zeros [B, P, H, e], which nobody will look at."""
    zeros = torch.zeros((), dtype=query.dtype, device=query.device)
    return zeros.expand(*query.shape[:-1], value.shape[-1]).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend_to_nothing)
