"""A language model of a backbone's shape with random weights, to measure what the backbone's weights are worth."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


def with_random_weights(backbone: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A float32 model of the backbone's config, with weights drawn by `seed` as the config initialises them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(backbone.config, dtype=torch.float32)
