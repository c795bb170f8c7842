"""What looks like a model and is not, or means something else: quantised, of another architecture, no file of a model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kits.tiny_llama import HIDDEN, INNER, loaded, tiny_llama
from mmgrid.merging import MergeError, merge, merge_state_dicts
from mmgrid.merging.models.settings import in_one_form
from mmgrid.merging.verify import verify

DOWN = "model.layers.0.mlp.down_proj.weight"


def _set(folder: Path, **settings: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def _linear(*models: Path, **more: object) -> dict[str, object]:
    return {"method": "linear", "sources": [{"path": str(model)} for model in models], **more}


def _quantised(folder: Path, seed: int, scales: str, block: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Write a model of 8-bit floats; returns what it means."""
    tensors = loaded(tiny_llama(folder, seed, layers=1))
    weight = tensors[DOWN] * (1 + 9 * torch.rand(HIDDEN, 1))  # rows of different size
    if scales == "block":
        down, across = -(-HIDDEN // block[0]), -(-INNER // block[1])
        factor = torch.rand(down, across) / 100 + 0.01
        spread = factor.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:HIDDEN, :INNER]
    else:
        factor = torch.rand(HIDDEN, 1) / 100 + 0.01 if scales == "row" else torch.tensor(0.02)
        spread = factor.expand(HIDDEN, INNER)
    codes = (weight / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
    name = f"{DOWN}_scale_inv" if scales == "block" else f"{DOWN}_scale"
    stored = tensors | {DOWN: codes, name: factor, DOWN.replace("weight", "input_scale"): torch.tensor(1.0)}
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    quantised = {"quant_method": "fp8", "weight_block_size": list(block)}
    _set(folder, quantization_config=quantised, torch_dtype="bfloat16")
    return tensors | {DOWN: codes.float() * spread}


@pytest.mark.parametrize("scales", ["block", "row", "tensor"])
def test_codes_are_multiplied_by_their_scales(scales: str, tmp_path: Path) -> None:
    means = [_quantised(tmp_path / name, seed, scales, (5, 7)) for seed, name in enumerate("ab")]
    report = merge(_linear(tmp_path / "a", tmp_path / "b", dtype="float32"), tmp_path / "out")
    assert report.notes[0] == "a: is quantised; its codes are multiplied by their scales"
    assert any(name.startswith(f"{DOWN}_scale") for name in report.dropped)
    merged = loaded(tmp_path / "out")
    torch.testing.assert_close(merged[DOWN], (means[0][DOWN] + means[1][DOWN]) / 2)
    assert merged.keys() == loaded(tiny_llama(tmp_path / "plain", 0, layers=1)).keys()
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert verify(tmp_path / "out").equal
    merge(_linear(tmp_path / "a", tmp_path / "plain"), tmp_path / "mixed")
    torch.testing.assert_close(
        loaded(tmp_path / "mixed")[DOWN], (means[0][DOWN] + loaded(tmp_path / "plain")[DOWN]) / 2
    )


_INT8, _INT32, _UINT8, _FLOAT = torch.int8, torch.int32, torch.uint8, torch.float32
# Format → the parts of a module, what its config says, and what the error calls it.
QUANTISED: dict[str, tuple[dict[str, torch.dtype], dict[str, object], str]] = {
    "GPTQ": (
        {"qweight": _INT32, "scales": _FLOAT, "qzeros": _INT32},
        {"quantization_config": {"quant_method": "gptq"}},
        "gptq",
    ),
    "bitsandbytes": ({"weight": _UINT8, "weight.absmax": _FLOAT}, {}, "bitsandbytes"),
    "bitsandbytes, 8 bits": ({"weight": _INT8, "SCB": _FLOAT}, {}, "bitsandbytes"),
    "torchao": ({"weight": _INT8}, {"quantization_config": {"quant_method": "torchao"}}, "torchao"),
    "torchao, flat": ({"weight_qdata": _INT8, "weight_scale": _FLOAT}, {}, "torchao"),
    "EETQ": ({"weight": _INT8, "weight_scales": _FLOAT}, {}, "codes with scales of an unknown form"),
    "HQQ": ({"W_q": _UINT8, "scale": _FLOAT, "zero": _FLOAT}, {}, "HQQ"),
    "AQLM": ({"codes": torch.int16, "codebooks": _FLOAT, "scales": _FLOAT}, {}, "AQLM"),
    "VPTQ": ({"centroids.weight": _FLOAT, "indices": torch.uint16}, {}, "VPTQ"),
    "ExLlama": ({"trellis": torch.int16, "suh": _FLOAT}, {}, "ExLlama"),
    "MLX": (
        {"weight": torch.uint32, "scales": _FLOAT, "biases": _FLOAT},
        {"quantization": {"bits": 4}},
        "codes with scales",
    ),
    "NVFP4": (
        {"weight": _UINT8, "weight_scale": torch.float8_e4m3fn, "weight_scale_2": _FLOAT},
        {},
        "codes with scales",
    ),
    "MXFP4": ({"gate_blocks": _UINT8, "gate_scales": _UINT8}, {}, "MXFP4"),
    "packed": ({"weight_packed": _INT32, "weight_scale": _FLOAT}, {"compression_config": {}}, "compressed-tensors"),
    "in a part": ({"weight": _UINT8}, {"text_config": {"quantization_config": {"quant_method": "new"}}}, "new"),
    "undeclared": ({"weight": torch.int32}, {}, "integers"),
    "FP8 of another format": (
        {"weight": torch.float8_e4m3fn},
        {"quantization_config": {"quant_method": "new"}},
        "new",
    ),
}


@pytest.mark.parametrize("format_", QUANTISED)
def test_other_quantised_models_are_refused_by_name(format_: str, tmp_path: Path) -> None:
    parts, settings, called = QUANTISED[format_]
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    tensors = loaded(model)
    del tensors[DOWN]
    stem = DOWN.removesuffix(".weight")
    tensors |= {f"{stem}.{part}": torch.ones(4, 4).to(dtype) for part, dtype in parts.items()}
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    _set(model, **settings)
    with pytest.raises(MergeError, match=rf"model: is quantised \({called}.*dequantise it first"):
        merge(_linear(model), tmp_path / "out")


# Scales of codes [2, 10, 12], or of codes [10, 12].
FITTING = {
    "per column": ((10, 12), (1, 12), "weight_scale"),
    "per row": ((10, 12), (10,), "weight_scale"),
    "per block that the config names": ((10, 12), (4, 2), "weight_scale"),
    "per tensor, called otherwise": ((10, 12), (), "qscale_weight"),
    "per expert": ((2, 10, 12), (2,), "weight_scale"),
    "per column of an expert": ((2, 10, 12), (2, 1, 12), "weight_scale"),
    "per block of an expert": ((2, 10, 12), (2, 4, 2), "weight_scale_inv"),
}


@pytest.mark.parametrize("case", FITTING)
@pytest.mark.parametrize("type_", ["int8", "float8_e4m3fn"])
def test_scales_along_any_axes_are_multiplied_out(case: str, type_: str, tmp_path: Path) -> None:
    shape, of_scales, name = FITTING[case]
    if type_ == "int8" and name != "weight_scale":
        return  # int8 codes have scales of one name
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    codes = torch.randint(-100, 100, shape).to(getattr(torch, type_))
    scales = torch.rand(of_scales) + 0.5
    stored = {"experts.weight": codes, f"experts.{name}": scales}
    save_file(loaded(model) | stored, model / "model.safetensors", {"format": "pt"})
    groups = {"config_groups": {"group_0": {"weights": {"block_structure": [3, 7]}}}}
    _set(model, quantization_config={"quant_method": "compressed-tensors", **groups}, torch_dtype="float32")
    merge(_linear(model), tmp_path / "out")
    wide = scales.reshape(of_scales + (1,) * (len(shape) - len(of_scales)))
    for axis, (length, count) in enumerate(zip(shape, wide.shape, strict=True)):
        of_blocks = {4: 3, 2: 7} if axis >= len(shape) - 2 else {}
        block = of_blocks[count] if count in of_blocks else length // count
        wide = torch.repeat_interleave(wide, block, axis).narrow(axis, 0, length)
    torch.testing.assert_close(loaded(tmp_path / "out")["experts.weight"], codes.float() * wide)


def test_groups_of_columns_that_the_config_does_not_name_divide_them_evenly(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    codes, scales = torch.ones(4, 12).to(torch.float8_e4m3fn), torch.arange(1.0, 13).reshape(4, 3)
    save_file({"a.weight": codes, "a.weight_scale": scales}, model / "model.safetensors", {"format": "pt"})
    merge(_linear(model, dtype="float32"), tmp_path / "out")
    assert torch.equal(loaded(tmp_path / "out")["a.weight"], scales.repeat_interleave(4, 1))


def test_quantised_models_in_memory_are_refused() -> None:
    codes = {"a.weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "a.weight_scale": torch.tensor(2.0)}
    with pytest.raises(MergeError, match="model1: is quantised \\(codes with scales: a.weight"):
        merge_state_dicts("linear", [codes])


def test_integers_that_are_no_weights_are_kept(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    codes = {
        "item_codes": torch.ones(4, 3, dtype=torch.int32),
        "scale": torch.ones(1),
        "attn.bias": torch.ones(1, 1, 2, 2),
    }
    save_file(loaded(model) | codes, model / "model.safetensors", {"format": "pt"})
    assert set(merge(_linear(model), tmp_path / "out").kept) == {"item_codes"}


def test_what_a_config_says_of_quantisation_is_left_out_with_it(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    _set(model, quantization={"bits": 4}, text_config={"quantization_config": {"quant_method": "fp8"}, "x": 1})
    merge(_linear(model), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization" not in config
    assert config["text_config"] == {"x": 1}
    online = {"quant_method": "bitnet", "quantization_mode": "online"}  # of activations; the weights are full numbers
    _set(model, quantization_config=online)
    merge(_linear(model), tmp_path / "online")
    assert json.loads((tmp_path / "online" / "config.json").read_text())["quantization_config"] == online


def test_scales_that_do_not_fit_are_named(tmp_path: Path) -> None:
    _quantised(tmp_path / "a", 0, "block", (5, 7))
    _set(tmp_path / "a", quantization_config={"quant_method": "fp8", "weight_block_size": [3, 7]})
    with pytest.raises(
        MergeError, match=r"down_proj.weight_scale_inv is \[4, 4\], which does not fit .* blocks of 3 × 7"
    ):
        merge(_linear(tmp_path / "a"), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rope_theta": 1e6}, "rope_theta: a has 10000.0, b 1000000.0"),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "rope_theta: a has 10000.0, b 500000.0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.rope_type: a has default, b linear"),
        ({"num_attention_heads": 4, "num_key_value_heads": 4}, "num_attention_heads: a has 2, b 4"),
        ({"hidden_act": "gelu"}, "hidden_act: a has silu, b gelu"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps: a has 1e-06, b 1e-05"),
        ({"text_config": {"rope_theta": 1e6}}, "text_config.rope_theta: a has 10000.0, b 1000000.0"),
        ({"model_type": "mistral"}, "model_type: a has llama, b mistral"),
        ({"sliding_window": 4096}, "sliding_window: a has None, b 4096"),
        ({"layer_types": ["sliding_attention"]}, "layer_types: a has [full_attention], b [sliding_attention]"),
        ({"attention_bias": True}, "attention_bias: a has False, b True"),
        ({"mlp_bias": True}, "mlp_bias: a has False, b True"),
        ({"head_dim": 4}, "head_dim: a has 8, b 4"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: a has 1.0, b 0.5"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor: a has 1.0, b 0.5",
        ),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: a has None, b 30.0"),
        ({"query_pre_attn_scalar": 64}, "query_pre_attn_scalar: a has None, b 64"),
        ({"logits_scaling": 8.0}, "logits_scaling: a has 1.0, b 8.0"),
        ({"logit_scale": 0.25}, "logit_scale: a has 0.5, b 0.25"),
        ({"output_multiplier": 0.2}, "output_multiplier: a has 0.5, b 0.2"),
        ({"is_decoder": True}, "is_decoder: a has False, b True"),
        ({"num_kv_shared_layers": 1}, "num_kv_shared_layers: a has 0, b 1"),
        ({"expert_selection_fn": "sigmoid"}, "expert_selection_fn: a has softmax, b sigmoid"),
        ({"use_post_norm": True}, "use_post_norm: a has False, b True"),
        ({"vision_feature_layer": -1}, "vision_feature_layer: a has -2, b -1"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "linear", "factor": 8.0}}},
            "rope_scaling.rope_type: a has default, b linear",
        ),
        (
            {"rope_parameters": {"rope_theta": 1e4, "sliding_attention": {"rope_theta": 2e4}}},
            "rope_local_base_freq: a has 10000.0, b 20000.0",
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling.rope_type: a has default, b yarn"),
        ({"language_config": {"hidden_activation": "relu2"}}, "language_config.hidden_activation: a has silu, b relu2"),
    ],
)
def test_settings_that_change_numbers_stop_the_merge(settings: dict[str, object], said: str, tmp_path: Path) -> None:
    common = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "text_config": {"rope_theta": 10000.0}, "logit_scale": 0.5}
    common |= {"layer_types": ["full_attention"], "output_multiplier": 0.5, "num_kv_shared_layers": 0}
    common |= {"expert_selection_fn": "softmax", "use_post_norm": False, "vision_feature_layer": -2}
    common |= {"rope_local_base_freq": 10000.0, "language_config": {"hidden_activation": "silu"}}
    a, b = (_set(tiny_llama(tmp_path / name, seed, layers=1), **common) for seed, name in enumerate("ab"))
    _set(b, **settings)
    with pytest.raises(MergeError, match="--allow-config-mismatch") as raised:
        merge(_linear(a, b), tmp_path / "out")
    assert said in str(raised.value)
    report = merge(_linear(a, b, allow_config_mismatch=True), tmp_path / "out")
    assert any(said in note for note in report.notes)
    record = json.loads((tmp_path / "out" / "mmgrid.json").read_text())
    assert record["report"]["notes"] == list(report.notes)
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_other_differences_of_configs_are_noted_or_do_not_matter(tmp_path: Path) -> None:
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    _set(b, transformers_version="5.1", use_cache=False, attention_dropout=0.1, rope_theta=10000.0, _name_or_path="x")
    _set(b, rope_scaling=None, head_dim=HIDDEN // 2, architectures=["LlamaModel"])
    assert merge(_linear(a, b), tmp_path / "same").notes == ()
    _set(b, eos_token_id=[2, 3], max_position_embeddings=99)
    _set(a, eos_token_id=2)
    assert merge(_linear(a, b), tmp_path / "noted").notes == (
        "config.json: eos_token_id: a has 2, b [2, 3]",
        "config.json: max_position_embeddings: a has nothing, b 99",
    )


SAME = {
    "sliding window that is off": (
        {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 28},
        {"sliding_window": None, "use_sliding_window": False},
    ),
    "head size": ({"head_dim": None}, {"head_dim": HIDDEN // 2}),
    "two kinds of layers": (
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None},
        {
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
            }
        },
    ),
    "partial rotary": (
        {"partial_rotary_factor": 0.5, "rope_theta": 1e4},
        {"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 1e4, "rope_type": "default"}},
    ),
    "old names": ({"rotary_pct": 0.25}, {"rope_parameters": {"partial_rotary_factor": 0.25}}),
    "sections": (
        {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}},
        {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}},
    ),
    "two kinds of layers, by other names": (
        {"global_rope_theta": 1e6, "local_rope_theta": 1e4},
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
    ),
    "names of one function": (
        {"hidden_act": "swish", "ff_act": "gelu_new"},
        {"hidden_act": "silu", "ff_act": "gelu_fast"},
    ),
    "scales of one": ({"embedding_multiplier": 1.0}, {}),
    "training": (
        {"router_aux_loss_coef": 0.1, "init_std": 0.1, "decoder_layerdrop": 0.1},
        {"init_std": 1, "loss_type": "x"},
    ),
    "no tower": ({"vision_config": None}, {"vision_config": {"hidden_act": None}}),
}


@pytest.mark.parametrize("case", SAME)
def test_one_model_saved_by_older_and_newer_versions_is_one(case: str, tmp_path: Path) -> None:
    for name, seed, settings in (("a", 0, SAME[case][0]), ("b", 1, SAME[case][1])):
        _set(tiny_llama(tmp_path / name, seed, layers=1), **settings)
    assert merge(_linear(tmp_path / "a", tmp_path / "b"), tmp_path / "out").notes == ()


def test_rotary_settings_of_all_versions_have_one_form() -> None:
    new = {"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}}
    old = {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}}
    assert in_one_form(new) == in_one_form(old)


IMPOSTORS = {
    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n": r"pointer of Git LFS.*git lfs pull",
    "<!DOCTYPE html><html>404": "is a web page",
    "\n <html>": "is a web page",
    "<?xml version='1.0'?><Error>": "is XML",
    "": "is empty; download the file again",
}


@pytest.mark.parametrize("content", IMPOSTORS, ids=[words[:12] for words in IMPOSTORS.values()])
@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer.model", "merges.txt"]
)
def test_files_that_are_something_else_are_named(content: str, file: str, tmp_path: Path) -> None:
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    (a / file).write_text(content)
    with pytest.raises(MergeError, match=rf"a/{file}: {IMPOSTORS[content].replace('pointer', '.*pointer')}"):
        merge(_linear(a, b), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_tokenizer_and_pickled_weights_are_named(tmp_path: Path) -> None:
    a = tiny_llama(tmp_path / "a", 0, layers=1)
    whole = (a / "tokenizer.json").read_text()
    (a / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(MergeError, match=r"tokenizer\.json: is not JSON .* perhaps cut; download the file again"):
        merge(_linear(a), tmp_path / "out")
    torch.save({"x": torch.ones(2)}, a / "model.safetensors")
    with pytest.raises(MergeError, match=r"a/model\.safetensors: is pickled by PyTorch"):
        merge(_linear(a), tmp_path / "out")


def test_errors_name_what_the_user_wrote(tmp_path: Path) -> None:
    """A source without a name has a digest for a name; no error shows it."""
    a, b = (tiny_llama(tmp_path / name, seed, layers=1 + seed) for seed, name in enumerate(("shop-a", "shop-b")))
    with pytest.raises(MergeError, match=r"source 'shop-a' lacks model\.layers\.1\."):
        merge(_linear(a, b), tmp_path / "out")
    twice = [{"path": str(a)}, {"path": str(a)}]
    with pytest.raises(MergeError, match=rf"{a} and {a} have the same weights; if this is intended, give each a name"):
        merge({"method": "linear", "sources": twice}, tmp_path / "out")
