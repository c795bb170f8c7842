"""LoRA on parameters that hold all experts of a layer (`target_parameters`), in every form in which files have them."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kits.reading import read_in_runs
from mmgrid.merging import MergeError
from mmgrid.merging.models import low_rank
from mmgrid.merging.models.sources import open_source

EXPERTS, WIDTH, INNER, RANK = 3, 8, 12, 2
SHARED = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "num_experts_per_tok": 1,
}
KINDS = {
    "mixtral": {"num_local_experts": EXPERTS},
    "qwen3_moe": {"num_experts": EXPERTS, "moe_intermediate_size": INNER, "decoder_sparse_step": 1},
    "gpt_oss": {"num_local_experts": EXPERTS},  # [experts, in, out]
    "llama4_text": {"num_local_experts": EXPERTS, "intermediate_size_mlp": INNER, "interleave_moe_layer_step": 1},
    "granitemoe": {"num_local_experts": EXPERTS},  # beside the router in files
    "jetmoe": {"num_local_experts": EXPERTS, "kv_channels": 4},  # parameters of modules of their own
    "nemotron_h": {  # two projections, each of which fits the other's place transposed
        "n_routed_experts": EXPERTS,
        "moe_intermediate_size": INNER,
        "moe_shared_expert_intermediate_size": INNER,
        "layers_block_type": ["moe", "attention"],
    },
}


@pytest.mark.parametrize(
    ("kind", "targets", "settings"),
    [(kind, ["experts.gate_up_proj", "experts.down_proj"], {}) for kind in list(KINDS)[:5]]
    + [
        ("jetmoe", ["mlp.input_linear.weight", "mlp.output_linear.weight"], {}),
        ("nemotron_h", ["experts.up_proj", "experts.down_proj"], {}),
        ("mixtral", ["gate_up_proj", "mlp.gate.weight"], {"target_modules": ["q_proj"], "use_rslora": True}),
        ("qwen3_moe", ["mlp.experts.down_proj"], {"alpha_pattern": {"0.mlp.experts.down_proj": 5, "down_proj": 7}}),
        (
            "gpt_oss",
            ["down_proj", "gate_up_proj"],
            {"rank_pattern": {"gate_up_proj": 3}, "alpha_pattern": {"experts": 9}},
        ),
        ("mixtral", ["q_proj.weight"], {"alpha_pattern": {"q_proj": 12}}),  # a parameter is not called like its module
    ],
)
def test_gives_the_same_weights_as_peft(
    kind: str, targets: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHARED, **KINDS[kind]))
        model.save_pretrained(tmp_path / "base")
        settings = {"target_modules": [], **settings}
        adapted = peft.get_peft_model(
            model, peft.LoraConfig(r=RANK, lora_alpha=3, target_parameters=targets, **settings)
        )
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # peft initialises B to zero
                parameter.data += torch.randn_like(parameter)
        adapted.save_pretrained(tmp_path / "adapter")
        adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    found = read_in_runs(tmp_path / "adapter", tmp_path / "base", run=1000)
    below, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "merged"))
    assert found.keys() == expected.keys()
    assert any(not tensor.equal(expected[name]) for name, tensor in below.items())
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def _model(folder: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in tensors.items()}, folder / "model.safetensors"
    )
    return folder


def _adapter(folder: Path, pairs: dict[str, tuple[int, int]], targets: list[str]) -> Path:
    """Writes factors for module → in and out."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for module, (columns, rows) in pairs.items():
        for half, shape in (("A", (EXPERTS * RANK, columns)), ("B", (rows, EXPERTS * RANK))):
            tensors[f"base_model.model.{module}.lora_{half}.weight"] = torch.randn(shape, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_parameters": targets}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def test_runs_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "_BLOCK_ELEMENTS", 16)
    monkeypatch.setattr(low_rank, "_CACHED", 1)
    base = _model(
        tmp_path / "base", {"m.experts.gate_up_proj": (EXPERTS, 10, 7), "m.experts.down_proj": (EXPERTS, 7, 5)}
    )
    pairs = {"m.experts": (5, 7), "m.experts.base_layer": (7, 10)}
    adapter = _adapter(tmp_path / "adapter", pairs, ["experts.gate_up_proj", "experts.down_proj"])
    whole, pieces = read_in_runs(adapter, base, run=1000), read_in_runs(adapter, base, run=11)
    assert all(whole[name].equal(pieces[name]) for name in whole)
    factors = load_file(adapter / "adapter_model.safetensors")
    down, up = (factors[f"base_model.model.m.experts.lora_{half}.weight"] for half in "AB")
    for expert in range(EXPERTS):
        expected = 2 * up[:, expert::EXPERTS] @ down[expert * RANK : (expert + 1) * RANK]
        before = load_file(base / "model.safetensors")["m.experts.down_proj"][expert]
        torch.testing.assert_close(whole["m.experts.down_proj"][expert], before + expected)


def test_a_square_parameter_lies_as_the_others_of_the_adapter(tmp_path: Path) -> None:
    base = _model(
        tmp_path / "base", {"m.experts.gate_up_proj": (EXPERTS, 6, 12), "m.experts.down_proj": (EXPERTS, 6, 6)}
    )
    both = _adapter(
        tmp_path / "both", {"m.experts": (6, 6), "m.experts.base_layer": (6, 12)}, ["gate_up_proj", "down_proj"]
    )
    found, factors = read_in_runs(both, base, run=1000), load_file(both / "adapter_model.safetensors")
    down, up = (factors[f"base_model.model.m.experts.lora_{half}.weight"] for half in "AB")
    before = load_file(base / "model.safetensors")["m.experts.down_proj"][1]
    expected = before + (2 * up[:, 1::EXPERTS] @ down[RANK : 2 * RANK]).T
    torch.testing.assert_close(found["m.experts.down_proj"][1], expected)
    alone = _adapter(tmp_path / "alone", {"m.experts": (6, 6)}, ["down_proj"])
    with pytest.raises(
        MergeError, match=r"m\.experts\.down_proj: is square, and no other .* transposed\. Merge it with peft"
    ):
        open_source(alone, base)


@pytest.mark.parametrize(
    ("pairs", "targets", "words"),
    [
        (
            {"m.experts": (7, 9)},
            ["gate_up_proj"],
            r"fit its parameters \(m\.experts\.gate_up_proj \[3, 10, 7\]\) in none",
        ),
        ({"m.experts": (7, 10)}, ["gate_up_proj", "down_proj"], "has 1 pairs of factors for 2 parameters"),
        (
            {"m.experts": (7, 10)},
            ["experts.other"],
            r"m\.experts\.other: the model .*base has no tensor, and no matrices",
        ),
        ({"m.experts": (4, 4)}, ["up_proj"], "has no tensor, and no matrices"),  # its matrices differ in shape
    ],
)
def test_factors_that_fit_no_parameter_are_refused(
    pairs: dict[str, tuple[int, int]], targets: list[str], words: str, tmp_path: Path
) -> None:
    shapes = {
        "m.experts.gate_up_proj": (EXPERTS, 10, 7),
        "m.experts.down_proj": (EXPERTS, 7, 5),
        "m.experts.0.up_proj.weight": (4, 4),
        "m.experts.1.up_proj.weight": (4, 5),
    }
    base = _model(tmp_path / "base", shapes)
    with pytest.raises(MergeError, match=rf"target_parameters: .*{words}"):
        open_source(_adapter(tmp_path / "adapter", pairs, targets), base)
