"""Which layers get updates, in models whose layers are not all plain linear ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from mmgrid.backbone.load import load_model
from mmgrid.cards import read_json
from mmgrid.training.errors import TrainingError
from mmgrid.training.lora import put_adapter
from mmgrid.training.recipe import Lora


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2))


def _mixtral() -> PreTrainedModel:
    numbers: Any = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    return MixtralForCausalLM(MixtralConfig(vocab_size=40, num_hidden_layers=2, num_local_experts=2, **numbers))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT reads it
@pytest.mark.parametrize(
    ("make", "targets", "found"),
    [
        (_gpt2, ("all-linear",), {"c_attn", "c_proj", "c_fc"}),
        (_gpt2, ("attn.c_attn", "c_fc"), {"c_attn", "c_fc"}),
        (_mixtral, ("all-linear",), {"q_proj", "k_proj", "v_proj", "o_proj"}),  # experts are no layers
    ],
)
def test_an_adapter_of_such_a_model_is_read_again(
    make, targets: tuple[str, ...], found: set[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    base, adapted = tmp_path / "base", tmp_path / "adapted"
    make().save_pretrained(base)
    model = load_model(base)
    put_adapter(model, Lora(rank=2, targets=targets), base)
    layers = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert {name.rpartition(".")[2] for name in layers} == found
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.normal_(0, 0.3)
    adapted.mkdir()
    model.save_pretrained(adapted)
    assert set(read_json(adapted / "adapter_config.json")["target_modules"]) == layers

    tokens = torch.arange(12)[None]
    with torch.no_grad():
        logits = model.eval()(tokens).logits
        for read in (load_model(adapted), PeftModel.from_pretrained(load_model(base), adapted)):
            torch.testing.assert_close(read.eval()(tokens).logits, logits, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(load_model(base).eval()(tokens).logits, logits, atol=1e-2)


def test_a_rank_above_that_of_all_layers_is_refused(tmp_path: Path) -> None:
    _gpt2().save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"lora\.rank: 17 is more than any of the layers has; .* at most rank 16"):
        put_adapter(load_model(tmp_path), Lora(rank=17), tmp_path)
