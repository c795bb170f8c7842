"""Prompts that are read once, each followed by a growing tree of branches.

Shape letters: B prompts, P prompt tokens, K branches, D width.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmgrid.decoding.kv_cache import PreallocatedCache, cache_argument
from mmgrid.decoding.last_state import last_state_only
from mmgrid.decoding.tree_attention import tree_attention, tree_mask


class PromptTree:
    """One key-value cache for prompts and all their branches; nothing in it is copied per branch.

    hidden: [B, 1, D], the last hidden states at the prompts' last tokens.
    """

    def __init__(self, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None, room: int):
        """Args:
        input_ids, attention_mask: [B, P], padded on the left; None if nothing is padded.
        room: positions reserved for the tree behind each prompt.
        """
        self.decoder = model.get_decoder()
        self.dtype = model.dtype
        self.cache = PreallocatedCache(room + 1)  # the last layer caches a prompt's last position separately
        there = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self.seen = there.bool()[:, None, :]  # bool [B, K, positions so far]: what each newest token sees
        positions = there.long().cumsum(1) - 1
        self.position = positions[:, -1:] + 1  # [B, 1] of the next tokens
        with last_state_only(self.decoder):
            output = self.decoder(
                input_ids=input_ids,
                attention_mask=attention_mask,  # None: plain causal attention, which is faster
                position_ids=positions.clamp(min=0),
                **cache_argument(self.decoder, self.cache),
                use_cache=True,
            )
        self.hidden = output.last_hidden_state[:, -1:]

    def grow(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Hidden states [B, K, D] of new tokens [B, K], each appended to the branch with index `parents` [B, K]."""
        ancestors = self.seen.gather(1, parents.unsqueeze(-1).expand(-1, -1, self.seen.shape[-1]))
        itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        self.seen = torch.cat([ancestors, itself], dim=-1)
        with tree_attention(self.decoder.config):
            output = self.decoder(
                input_ids=tokens,
                attention_mask=tree_mask(self.seen, self.decoder.config, self.dtype),
                position_ids=self.position.expand(-1, tokens.shape[1]),
                **cache_argument(self.decoder, self.cache),
                use_cache=True,
            )
        self.position = self.position + 1
        return output.last_hidden_state
