"""The shape of a decoder: its weights are those that Transformers makes of its config."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from mmgrid.backbone.shape import KNOWN, Shape, shape_of

NUMBERS: Any = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 500}
HEADS: Any = {"num_attention_heads": 6, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        Qwen3Config(**NUMBERS, **HEADS, head_dim=24, tie_word_embeddings=True),
        Qwen3Config(**NUMBERS, **HEADS, head_dim=16, tie_word_embeddings=False),
        LlamaConfig(**NUMBERS, **HEADS, tie_word_embeddings=True),
    ],
    ids=["tied", "untied", "llama"],
)
def test_its_weights_are_counted_like_the_models(config: PreTrainedConfig, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    shape = shape_of(tmp_path)
    assert shape is not None
    assert shape.weights == sum(weight.numel() for weight in model.parameters())
    layer = sum(weight.numel() for weight in model.model.layers[0].parameters())
    assert shape.layer_weights == layer


def test_the_known_ones_have_their_published_sizes() -> None:
    assert KNOWN["Qwen/Qwen3-0.6B"].weights == 596_049_920
    assert KNOWN["Qwen/Qwen3-8B"].weights == 8_190_735_360
    assert KNOWN["HuggingFaceTB/SmolLM2-135M"].weights == 134_515_008
    assert shape_of("HuggingFaceTB/SmolLM2-135M-Instruct") == KNOWN["HuggingFaceTB/SmolLM2-135M"]


def test_its_arithmetic_is_two_operations_per_weight_and_token() -> None:
    shape = KNOWN["Qwen/Qwen3-0.6B"]
    assert shape.forward(1, 0) == 2 * shape.layers * shape.layer_matrices
    assert shape.forward(100, 0) == 100 * shape.forward(1, 0)
    assert shape.forward(1, 1000) - shape.forward(1, 0) == 4 * 1000 * 28 * 16 * 128
    assert shape.head(3) == 3 * 2 * 1024 * 151936


def test_other_models_have_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert shape_of(tmp_path) is None
    assert shape_of("nobody/knows-this") is None
    with pytest.raises(ValueError, match="num_attention_heads"):
        Shape.of_config({})


@pytest.mark.parametrize(
    "config",
    [
        GPTNeoXConfig(**NUMBERS, num_attention_heads=6, tie_word_embeddings=False),
        PhiConfig(**NUMBERS, num_attention_heads=6),
        GPT2Config(vocab_size=500, n_embd=96, n_layer=3, n_head=6, n_positions=8),
        BloomConfig(vocab_size=500, hidden_size=96, n_layer=3, n_head=6),
    ],
    ids=lambda config: config.model_type,
)
def test_feed_forward_layers_without_a_gate_have_two_matrices(config: PreTrainedConfig, tmp_path: Path) -> None:
    """Biases and tables of positions are not counted."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    shape = shape_of(tmp_path)
    assert shape is not None
    assert shape.weights == pytest.approx(sum(weight.numel() for weight in model.parameters()), rel=0.02)


def test_a_mixture_of_experts_has_no_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MixtralConfig(**NUMBERS, **HEADS).to_dict()))
    assert shape_of(tmp_path) is None
    with pytest.raises(ValueError, match=r"of a mixture of experts \(num_local_experts = 8\)"):
        Shape.of_config(MixtralConfig(**NUMBERS, **HEADS).to_dict())
