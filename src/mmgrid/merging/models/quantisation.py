"""Recognises quantised weights: codes, which mean nothing without the scales beside them.

Formats have their own names for codes and scales, and config files do not always declare them, so three things count: names
that only a format has, integers where weights belong, and scales beside 8-bit floats.

Sources: DeepSeek-V3's `weight_scale_inv`, compressed-tensors' `weight_scale`, Mistral's `qscale_weight`, and the file formats
of the quantisers that transformers 5 knows.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.settings import TEXT_PARTS
from mmgrid.merging.models.tensors import Tensors

# The keys under which configs declare it: transformers', that of older compressed-tensors, and MLX's.
DECLARATIONS = ("quantization_config", "compression_config", "quantization")
# Files beside the config in which quantisers declare it.
DECLARING_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quantization_config.json")
CODES = ("int8", "uint8", "float8_e4m3fn", "float8_e5m2")  # types that quantised weights may be stored in
_OF_CODES = ("int8", "uint8", "int16", "uint16", "int32", "uint32")  # integers that codes are packed into
# Formats whose int8 codes are multiplied by `weight_scale` and nothing else.
_MULTIPLIED_INTEGERS = ("", "compressed-tensors")
_OF_ACTIVATIONS = re.compile(
    r"(?:^|\.)(?:(?:input|output|act|activation|prob|prob_output)_(?:global_)?scale|(?:[qkv]|kv)_scale|qscale_act"
    r"|[kv]_proj\.output_scale)$"
)
_SCALE_LIKE = re.compile(
    r"(?:^|[._])(?:q?scales?(?:_inv|_weight|_2|_max)?|global_scale|zeros?|zero_point|absmax|SCB|biases|s[uv]h)$"
)
# Names that only a format has.
_FORMATS = {
    "GPTQ or AWQ": re.compile(r"\.(?:qweight|qzeros|g_idx)$"),
    "bitsandbytes": re.compile(r"\.(?:absmax|quant_map|nested_absmax|quant_state\..*|SCB|weight_format)$"),
    "compressed-tensors": re.compile(r"\.(?:weight_packed|weight_shape|weight_zero_point|weight_g_idx)$"),
    "quanto": re.compile(r"\.(?:weight\._data|weight\._scale)$"),
    "HQQ": re.compile(r"(?:^|\.)W_q$"),
    "AQLM": re.compile(r"(?:^|\.)codebooks$"),
    "VPTQ": re.compile(r"(?:^|\.)(?:res_)?centroids\.weight$"),
    "ExLlama": re.compile(r"(?:^|\.)(?:q_weight|q_invperm|trellis)$"),
    "QuIP": re.compile(r"(?:^|\.)Qidxs$"),
    "torchao": re.compile(r"[._:](?:weight_)?(?:qdata|int_data)$"),
    "SpQR": re.compile(r"(?:^|\.)(?:dense_weights|row_offsets|col_vals)$"),
}
_BUFFER = re.compile(
    r"(?:^|\.)(?:position_ids|token_type_ids|relative_position_index|(?:attn|attention)\.bias|num_batches_tracked)$"
)


@dataclass(frozen=True)
class Quantised:
    """What is quantised in a model and can be multiplied out.

    Attributes:
        scales: tensor of codes → tensor of its scales.
        unread: scales of activations, which no weight depends on.
    """

    scales: Mapping[str, str] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()


def quantised_in(model: Tensors, settings: Mapping[str, Any], called: object) -> Quantised:
    """The quantised weights of a model.

    Args:
        settings: its config.
        called: its name for errors.

    Raises:
        MergeError: they cannot be multiplied out; names the format and what to do.
    """
    said = _declaration(settings)
    method = str(said.get("quant_method", "")) if said is not None else ""
    scales = {name: scale for name in model if (scale := _scale_of(name, model, method)) is not None}
    unread = frozenset(name for name in model if _OF_ACTIVATIONS.search(name))
    for form, names in _obstacles(model, said, method, scales, unread):
        raise _refused(called, form, names)
    return Quantised(scales, unread if scales else frozenset())


def check_plain(model: Tensors, called: str) -> None:
    """Check that a model without files is not quantised, because its tensors are merged as they are.

    Raises:
        MergeError: it is.
    """
    found = quantised_in(model, {}, called)
    if found.scales:
        raise _refused(called, "codes with scales", [*found.scales])


def without_declaration(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model whose weights are plain numbers; what a loader does to activations remains."""
    found = {key: value for key, value in settings.items() if key not in DECLARATIONS or _is_of_activations(value)}
    return {
        key: without_declaration(value) if key in TEXT_PARTS and isinstance(value, dict) else value
        for key, value in found.items()
    }


def block_in(settings: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Rows and columns that share a scale, where a config says so."""
    said = _declaration(settings) or {}
    groups = said.get("config_groups")
    weights = [
        group.get("weights") or {}
        for group in (groups.values() if isinstance(groups, Mapping) else ())
        if isinstance(group, Mapping)
    ]
    given = said.get("weight_block_size") or next(
        (own["block_structure"] for own in weights if isinstance(own, Mapping) and own.get("block_structure")), None
    )
    if isinstance(given, list | tuple) and len(given) == 2 and all(type(size) is int and size > 0 for size in given):
        return given[0], given[1]
    return None


def _declaration(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    parts = [settings, *(settings[key] for key in TEXT_PARTS if isinstance(settings.get(key), Mapping))]
    found = [part[key] for part in parts for key in DECLARATIONS if isinstance(part.get(key), Mapping)]
    return found[0] if found else None


def _is_of_activations(value: Any) -> bool:
    """Whether weights are full numbers that a loader quantises as it goes, as BitNet's training weights."""
    return isinstance(value, Mapping) and value.get("quantization_mode") == "online"


def _obstacles(
    model: Tensors, said: Mapping[str, Any] | None, method: str, scales: Mapping[str, str], unread: Collection[str]
) -> Iterator[tuple[str, list[str]]]:
    """What cannot be multiplied out: the form of its codes, and some of its tensors."""
    used = {*scales.values(), *unread}
    yield from _of_other_formats(model, method)
    yield from _beside_codes(model, method, scales, used)
    if scales and said is not None and said.get("transform_config"):
        yield f"{method} with transform_config, which turns weights and activations", [*scales]
    integers = [name for name in model if name not in scales and _is_integer_matrix(model, name)]
    if named := [name for name in integers if name.endswith("weight") or said is not None]:
        yield method or "integers", named
    codes = [name for name in model if model.info(name).dtype in CODES and name not in {*scales, *used}]
    if method and (left := [name for name in codes if is_float(model.info(name).dtype)]):
        yield method, left


def _of_other_formats(model: Tensors, method: str) -> Iterator[tuple[str, list[str]]]:
    """The tensors that only a format has whose codes are not multiplied by scales alone."""
    for format_, name in _FORMATS.items():
        found = [each for each in model if name.search(each)]
        if found and (format_ != "AQLM" or any(_is_code(model, each) for each in model)):
            yield method or format_, found
    blocks = [name for name in model if name.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in model]
    if any(model.info(name).dtype == "uint8" for name in blocks):
        yield method or "MXFP4", blocks


def _beside_codes(
    model: Tensors, method: str, scales: Mapping[str, str], used: Collection[str]
) -> Iterator[tuple[str, list[str]]]:
    """Tensors in the modules of codes whose meaning is not known, each with its codes."""
    codes = [name for name in model if _is_code(model, name)]
    modules = {name.rpartition(".")[0]: name for name in codes if name.endswith("weight") or name in scales}
    for name in model:
        module, _, last = name.rpartition(".")
        code = modules.get(module)
        if code is None or name in used or name in scales or name == code:
            continue
        # A linear layer with scales has a bias and nothing else; what may stand beside other codes is not known.
        alone = code in scales and code == f"{module}.weight" and last != "bias"
        if alone or _SCALE_LIKE.search(name):
            yield method or "codes with scales of an unknown form", [code, name]


def _scale_of(name: str, model: Tensors, method: str) -> str | None:
    """The scales that the codes of a tensor are multiplied by; None of other tensors."""
    module, _, last = name.rpartition(".")
    dtype = model.info(name).dtype
    if dtype.startswith("float8") and not _SCALE_LIKE.search(name):
        beside = [f"{module}.{own}" for own in ("scale_weight", "qscale_weight", "scale")] if last == "weight" else []
        return next((one for one in (f"{name}_scale_inv", f"{name}_scale", *beside) if one in model), None)
    if dtype == "int8" and last == "weight" and method in _MULTIPLIED_INTEGERS and f"{name}_scale" in model:
        return f"{name}_scale"
    return None


def _is_code(model: Tensors, name: str) -> bool:
    dtype = model.info(name).dtype
    return (dtype.startswith("float8") and not _SCALE_LIKE.search(name)) or _is_integer_matrix(model, name)


def _is_integer_matrix(model: Tensors, name: str) -> bool:
    info = model.info(name)
    return info.dtype in _OF_CODES and len(info.shape) >= 2 and not _BUFFER.search(name)


def _refused(called: object, method: str, names: list[str]) -> MergeError:
    return MergeError(
        f"{called}: is quantised ({method}: {listing(names, 2)}): its codes mean nothing without their scales. Name the model "
        "that it was made from, or dequantise it first (transformers: `model.dequantize()`, then `save_pretrained`)"
    )
