"""Prompts that are longer than a model can read."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from kits.small import make_tokenizer
from mmgrid.backbone.load import BackboneError
from mmgrid.backbone.longest import _warn, check_length
from mmgrid.paradigms.shared.dialogues import Dialogue, answer_logits, collate
from mmgrid.paradigms.text.engines import HuggingFaceGenerator
from mmgrid.testing.data import make_items

TOKENIZER = make_tokenizer(make_items(40))
GPT2 = GPT2LMHeadModel(GPT2Config(vocab_size=len(TOKENIZER), n_embd=16, n_layer=1, n_head=2, n_positions=20))
OPT = OPTForCausalLM(
    OPTConfig(
        vocab_size=40,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=20,
    )
)


def _dialogue(tokens: int) -> Dialogue:
    return Dialogue.of((np.arange(tokens - 2) % 9, [1, 2]))


@pytest.mark.parametrize("model", [GPT2, OPT], ids=["gpt2", "opt"])
def test_positions_that_a_model_lacks_are_named(model: GPT2LMHeadModel) -> None:
    with torch.no_grad():
        answer_logits(model, collate([_dialogue(20), _dialogue(9), _dialogue(11)], 40))  # a row may be longer
        with pytest.raises(BackboneError, match=r"have 21 tokens, and this \w+ has positions for 20; lower history_"):
            answer_logits(model, collate([_dialogue(21)]))


def test_a_prompt_needs_room_for_its_answer() -> None:
    generator = HuggingFaceGenerator(GPT2, TOKENIZER, title_tokens=4)
    generator.titles([np.arange(16)], 1)
    with pytest.raises(BackboneError, match=r"have 21 tokens, and this gpt2 has positions for 20"):
        generator.titles([np.arange(17)], 1)


def test_computed_positions_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    numbers: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, max_position_embeddings=20, **numbers))
    _warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        for tokens in (20, 21, 22):
            check_length(model, tokens)
    assert [record.getMessage() for record in caplog.records] == [
        "prompts with their answers have more than the 20 tokens that this llama was made for: it may read them badly; "
        "lower history_length or text_tokens, or use a backbone for longer texts"
    ]
