"""Buffers that old files hold and every loader computes from the config, such as rotary frequencies and causal masks."""

import re
from collections.abc import Iterable

from mmgrid.merging.models.source import Source

_BUFFER = re.compile(
    r"(?:^|\.)(?:rot(?:ary|_pos)?_\w*emb\w*\.(?:\w*inv_freq|cos_cached|sin_cached|scale)|rope\.(?:freqs|inv_freq)|inv_freq"
    r"|freqs_cis|masked_bias|causal_mask|position_ids|token_type_ids|embed_positions\._float_tensor|embeddings\.position_ids"
    r"|(?:en|de)coder\.version|lm_head\.version|alibi)$"
)
# GPT-2's mask has four axes, its biases one.
_MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")


def buffers_of_some(models: Iterable[Source]) -> list[str]:
    """Buffers that loaders compute, which some models store and others do not."""
    models = list(models)
    names = {name for model in models for name in model}
    buffers = [
        name
        for name in names
        if _BUFFER.search(name)
        or (_MASK.search(name) and all(len(model.info(name).shape) == 4 for model in models if name in model))
    ]
    return sorted(name for name in buffers if not all(name in model for model in models))
