"""Loading a backbone: any causal language model in Hugging Face layout, as a folder or a hub's id."""

from pathlib import Path

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)


class BackboneError(ValueError):
    """The folder or id is no causal language model that can be loaded; the message says why."""


def load_model(source: str | Path, *, head: bool = True, trust_remote_code: bool = False) -> PreTrainedModel:
    """The backbone in float32, with its language-model head or (`head=False`) without."""
    factory = AutoModelForCausalLM if head else AutoModel
    return _load(factory, source, dtype=torch.float32, trust_remote_code=trust_remote_code)


def load_tokenizer(source: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer that lies beside the backbone's weights."""
    return _load(AutoTokenizer, source, trust_remote_code=trust_remote_code)


def _load(factory, source: str | Path, **options):
    try:
        return factory.from_pretrained(str(source), **options)
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"backbone {source}: cannot be loaded ({str(error).strip().splitlines()[0]}); "
            "give a folder with config.json, tokenizer and safetensors weights, or the id of one on the hub"
        ) from error
