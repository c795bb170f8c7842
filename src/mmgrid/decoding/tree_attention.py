"""Attention for branches behind a prompt: grouped query heads share their keys without copying them.

Shape letters: B prompts, H query heads, G query heads that share a key head, K branches, S positions in the cache, d head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "mmgrid_tree"


@contextmanager
def tree_attention(config: PreTrainedConfig) -> Iterator[None]:
    """Within this context, `sdpa` attention of models with this config is `attend`; masks must come from `tree_mask`."""
    before = config._attn_implementation
    config._attn_implementation_internal = NAME if before == "sdpa" else before  # every layer reads it again
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def tree_mask(seen: Tensor, config: PreTrainedConfig, dtype: torch.dtype) -> Tensor:
    """The visibility `seen`, bool [B, K, S], as an additive mask. Call it within `tree_attention`.

    One mask serves all layers: float [B, 1, G · K, S] for `attend`, [B, 1, K, S] for other attention.
    """
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
    shared = 1
    if config._attn_implementation == NAME:
        shared = config.num_attention_heads // (
            getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        )
    return mask.repeat(1, shared, 1)[:, None]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query [B, H, K, d]; key [B, H / G, S, d]; value [B, H / G, S, e]; attention_mask [B, 1, G · K, S] → [B, K, H, e].

    With a mask, Transformers' `sdpa` repeats keys and values G times. Here the G · K queries of a key head form one
    sequence instead.
    """
    batch, heads, branches, width = query.shape
    groups = key.shape[1]
    rows = query.reshape(batch, groups, heads // groups * branches, width)
    found = torch.nn.functional.scaled_dot_product_attention(rows, key, value, attn_mask=attention_mask, scale=scaling)
    return found.reshape(batch, heads, branches, -1).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
