"""Attention for a tree's branches behind a prompt: groups of query heads share their keys without copying them.

Shape letters: B prompts, H query heads, G query heads that share a key head, K branches, S places seen, d head width.
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
    """Within, a model of this config that has `sdpa` attends as `attend` does; its masks must be those of `tree_mask`."""
    before = config._attn_implementation
    config._attn_implementation_internal = NAME if before == "sdpa" else before  # read anew in every layer
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def tree_mask(seen: Tensor, config: PreTrainedConfig, dtype: torch.dtype) -> Tensor:
    """Who sees whom, bool [B, K, S], as a mask that is added to the logits; within `tree_attention`.

    Made once for all layers: float [B, 1, G · K, S] for `attend`, and [B, 1, K, S] for other kinds.
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

    Transformers' `sdpa` repeats keys and values G times where there is a mask; here the G · K queries of a key head
    stand in one row instead.
    """
    batch, heads, branches, width = query.shape
    groups = key.shape[1]
    rows = query.reshape(batch, groups, heads // groups * branches, width)
    found = torch.nn.functional.scaled_dot_product_attention(rows, key, value, attn_mask=attention_mask, scale=scaling)
    return found.reshape(batch, heads, branches, -1).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
