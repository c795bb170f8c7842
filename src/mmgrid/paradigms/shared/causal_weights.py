"""The weights of a causal language model in a foreign folder, checked against its config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mmgrid.backbone.token_rows import token_tables
from mmgrid.files.foreign import foreign
from mmgrid.merging.models.tensors import Tensors
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.paradigms.shared.foreign_weights import Copied


def causal_tensors(weights: Tensors, config: Mapping[str, Any], source: Path) -> dict[str, Copied]:
    """All tensors of the model by name, without buffers of older versions.

    The vocabulary's size is that of the weights: trainings that add tokens do not always write it into the config.

    Raises LayoutError if a weight is missing, has no place in the model, or has another shape.
    """
    model = _skeleton(weights, config, source)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {}
    for name in weights:
        if name.endswith("rotary_emb.inv_freq"):
            continue
        shape = weights.info(name).shape
        if expected.get(name) != shape:
            what = (
                "has no place in"
                if name not in expected
                else f"has shape {list(shape)}, not {list(expected[name])}, in"
            )
            raise LayoutError(f"{source}: {name} {what} a {config.get('model_type')} of its config.json")
        found[name] = Copied(name, shape)
    tied = set() if not model.config.get_text_config().tie_word_embeddings else {"lm_head.weight"}
    missing = sorted(expected.keys() - found.keys() - tied)
    if missing:
        raise LayoutError(f"{source}: lacks the weights of {missing[0]}")
    return found


def token_tensors(weights: Tensors, config: Mapping[str, Any]) -> list[str]:
    """The names of the tensors with one row per token."""
    return token_tables(_skeleton(weights, config, Path()))


def _skeleton(weights: Tensors, config: Mapping[str, Any], source: Path) -> Any:
    """The model without weights."""
    name = next((name for name in weights if name.endswith("embed_tokens.weight")), None)
    if name is None:
        raise LayoutError(f"{source}: has no embed_tokens.weight; it must be a decoder such as Llama or Qwen")
    options: dict[str, Any] = dict(config) | {"vocab_size": weights.info(name).shape[0]}
    none = "its config.json is none of a causal language model"
    with foreign(source, LayoutError, none), torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**options))
