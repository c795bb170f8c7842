"""A language model of a backbone's shape that has learnt nothing: what shows the worth of the backbone's weights."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


def drawn_anew(backbone: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the backbone's config, with all its weights drawn as the config says, by `seed`; in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(backbone.config, dtype=torch.float32)
