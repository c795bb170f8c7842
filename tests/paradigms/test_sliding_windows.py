"""Models whose layers see a window of tokens: packed texts are read as the model itself reads each of them."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from mmgrid.paradigms.semb.model import SembModel
from mmgrid.paradigms.shared.dialogues import Dialogue, answer_logits, collate
from mmgrid.paradigms.shared.packing import TokenTable, pack

NUMBERS: Any = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 5,
    "initializer_range": 0.3,
}
SLIDING, FULL = "sliding_attention", "full_attention"
CONFIGS = (
    MistralConfig(**NUMBERS),
    Gemma3TextConfig(**NUMBERS, layer_types=[SLIDING, FULL, SLIDING]),
    Gemma3TextConfig(**NUMBERS, layer_types=[SLIDING] * 3),
    Qwen3Config(**NUMBERS, use_sliding_window=True, layer_types=[FULL, SLIDING, SLIDING]),
)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_dialogues_longer_than_the_window(config: PreTrainedConfig, attention: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    rng = np.random.default_rng(0)
    dialogues = [Dialogue.of((rng.integers(60, size=size), rng.integers(60, size=3))) for size in (12, 2, 7)]
    with torch.no_grad():
        packed = answer_logits(model, collate(dialogues, 40))
        alone = [model(input_ids=torch.from_numpy(one.tokens)[None]).logits[0, -4:-1] for one in dialogues]
    batch = collate(dialogues, 40)
    assert len(batch["input_ids"]) == 1
    expected = {tuple(one.tokens[-3:].tolist()): logits for one, logits in zip(dialogues, alone, strict=True)}
    for number in range(3):
        labels = tuple(batch["labels"][3 * number : 3 * number + 3].tolist())
        torch.testing.assert_close(packed[3 * number : 3 * number + 3], expected[labels], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_items_longer_than_the_window(config: PreTrainedConfig) -> None:
    torch.manual_seed(0)
    model = SembModel.over(AutoModel.from_config(config), seed=0).eval()
    rng = np.random.default_rng(0)
    prompt, texts = rng.integers(60, size=4), [rng.integers(60, size=size).tolist() for size in (9, 1, 6)]
    packed = pack(TokenTable.of(prompt.tolist(), texts), np.arange(3))
    assert len(packed.input_ids) == 1
    table = model.item_tower.get_input_embeddings()
    with torch.no_grad():
        vectors = model.encode_items(**packed.tensors())
        for vector, text in zip(vectors, texts, strict=True):
            # embeddings of Gemma are scaled when they are looked up, [ITEM] is not
            read = torch.cat([table(torch.tensor([*prompt, *text])), model.item_token[None]])[None]
            alone = model.item_tower(inputs_embeds=read).last_hidden_state[0, -1]
            torch.testing.assert_close(vector, alone, rtol=1e-4, atol=1e-4)
