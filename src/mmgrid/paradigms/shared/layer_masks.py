"""The attention masks of packed rows, for each kind of layer of a model.

Transformers takes a mask of packed rows as it is, in place of its own. So what a layer that slides must not see, tokens
further back than its window, has to be in the mask; otherwise a model would be trained on more than it sees afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from mmgrid.paradigms.shared.packing import attention_mask

_SLIDING = "sliding_attention"  # as Transformers calls such layers


def layer_masks(
    segments: Tensor, position_ids: Tensor, config: PreTrainedConfig, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """What a model takes as `attention_mask` to read packed rows.

    Args:
        segments, position_ids: int64 [R, W], see `PackedItems`.
        dtype: of the model.

    Returns:
        A mask [R, 1, W, W] for all layers; or one for each kind of layer, if texts are longer than the window of those
        that slide and others do not slide.
    """
    visible, text = attention_mask(segments), config.get_text_config()
    window, kinds = getattr(text, "sliding_window", None), set(getattr(text, "layer_types", None) or (_SLIDING,))
    if window is None or _SLIDING not in kinds or int(position_ids.max()) < window:
        return _as_read(visible, config, dtype)
    near = (position_ids[:, None, :, None] - position_ids[:, None, None, :]) < window
    if kinds == {_SLIDING}:
        return _as_read(visible & near, config, dtype)
    return {kind: _as_read(visible & near if kind == _SLIDING else visible, config, dtype) for kind in kinds}


def _as_read(visible: Tensor, config: PreTrainedConfig, dtype: torch.dtype) -> Tensor:
    """A boolean attention mask in the form that the model's attention implementation expects."""
    if config._attn_implementation == "sdpa":
        return visible
    # Other implementations add the mask to the logits, and would read True and False as 1 and 0.
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)
