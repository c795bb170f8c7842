"""Codes with scales are multiplied out where this is simple; other quantised models are refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kits.tiny_llama import HIDDEN, INNER, linear, loaded, tiny_llama, with_settings
from mmgrid.merging import MergeError, merge, merge_state_dicts
from mmgrid.merging.verify import verify

DOWN = "model.layers.0.mlp.down_proj.weight"


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
    with_settings(folder, quantization_config=quantised, torch_dtype="bfloat16")
    return tensors | {DOWN: codes.float() * spread}


@pytest.mark.parametrize("scales", ["block", "row", "tensor"])
def test_codes_are_multiplied_by_their_scales(scales: str, tmp_path: Path) -> None:
    means = [_quantised(tmp_path / name, seed, scales, (5, 7)) for seed, name in enumerate("ab")]
    report = merge(linear(tmp_path / "a", tmp_path / "b", dtype="float32"), tmp_path / "out")
    assert report.notes[0] == "a: is quantised; its codes are multiplied by their scales"
    assert {
        name.removeprefix(DOWN.removesuffix("weight")): why.partition(" ")[0] for name, why in report.dropped.items()
    } == {
        f"weight_scale{'_inv' * (scales == 'block')}": "multiplied",
        "input_scale": "the",
    }
    merged = loaded(tmp_path / "out")
    torch.testing.assert_close(merged[DOWN], (means[0][DOWN] + means[1][DOWN]) / 2)
    assert merged.keys() == loaded(tiny_llama(tmp_path / "plain", 0, layers=1)).keys()
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert verify(tmp_path / "out").equal
    merge(linear(tmp_path / "a", tmp_path / "plain"), tmp_path / "mixed")
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
    "torchao, by name": ({"_weight_qdata": torch.float8_e4m3fn, "_weight_scale": _FLOAT}, {}, "torchao"),
    "torchao, by colon": ({"weight:qdata": _INT8, "weight:scale": _FLOAT}, {}, "torchao"),
    "SpQR": ({"dense_weights": torch.int64, "row_offsets": _INT32}, {}, "SpQR"),
    "groups in another order": ({"weight": _INT8, "weight_scale": _FLOAT, "weight_g_idx": _INT32}, {}, "compressed"),
    "an offset": ({"weight": _INT8, "weight_scale": _FLOAT, "weight_offset": _FLOAT}, {}, "codes with scales"),
    "smoothed": (
        {"weight": torch.float8_e4m3fn, "weight_scale": _FLOAT, "smooth_factor": _FLOAT},
        {},
        "codes with scales",
    ),
    "turned": (
        {"weight": _INT8, "weight_scale": _FLOAT},
        {"quantization_config": {"quant_method": "compressed-tensors", "transform_config": {"R1": {}}}},
        "compressed-tensors with transform_config",
    ),
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
    with_settings(model, **settings)
    with pytest.raises(MergeError, match=rf"model: is quantised \({called}.*dequantise it first"):
        merge(linear(model), tmp_path / "out")


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
    with_settings(model, quantization_config={"quant_method": "compressed-tensors", **groups}, torch_dtype="float32")
    merge(linear(model), tmp_path / "out")
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
    merge(linear(model, dtype="float32"), tmp_path / "out")
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
    assert set(merge(linear(model), tmp_path / "out").kept) == {"item_codes"}


def test_what_a_config_says_of_quantisation_is_left_out_with_it(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", 0, layers=1)
    with_settings(model, quantization={"bits": 4}, text_config={"quantization_config": {"quant_method": "fp8"}, "x": 1})
    merge(linear(model), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization" not in config
    assert config["text_config"] == {"x": 1}
    (model / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    merge(linear(model), tmp_path / "beside")
    assert not (tmp_path / "beside" / "hf_quant_config.json").exists()
    online = {"quant_method": "bitnet", "quantization_mode": "online"}  # of activations; the weights are full numbers
    with_settings(model, quantization_config=online)
    merge(linear(model), tmp_path / "online")
    assert json.loads((tmp_path / "online" / "config.json").read_text())["quantization_config"] == online


def test_scales_that_do_not_fit_are_named(tmp_path: Path) -> None:
    _quantised(tmp_path / "a", 0, "block", (5, 7))
    with_settings(tmp_path / "a", quantization_config={"quant_method": "fp8", "weight_block_size": [3, 7]})
    with pytest.raises(
        MergeError, match=r"down_proj.weight_scale_inv is \[4, 4\], which does not fit .* blocks of 3 × 7"
    ):
        merge(linear(tmp_path / "a"), tmp_path / "out")
