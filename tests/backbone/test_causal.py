"""A backbone reads from left to right."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel

from kits.small import make_backbone, make_tokenizer
from mmgrid.backbone.causal import check_causal
from mmgrid.backbone.load import BackboneError
from mmgrid.testing.data import make_items

NUMBERS: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def test_models_that_read_in_both_directions_are_refused() -> None:
    torch.manual_seed(0)
    check_causal(BertLMHeadModel(BertConfig(vocab_size=40, is_decoder=True, **NUMBERS)))
    with pytest.raises(BackboneError, match=r"a bert cannot be a backbone: it reads texts in both directions"):
        check_causal(BertLMHeadModel(BertConfig(vocab_size=40, **NUMBERS)))


def test_decoders_are_taken() -> None:
    check_causal(make_backbone(make_tokenizer(make_items(40)), head=True))
    check_causal(GPT2LMHeadModel(GPT2Config(vocab_size=5, n_embd=16, n_layer=1, n_head=2)))
