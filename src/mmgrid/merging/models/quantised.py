"""Opens a model's folder; a model in 8-bit floats with scales beside them is read as code times scale.

A quantised weight means its code times the scale of its block, so codes and scales must not be merged apart. FP8 with
scales per tensor, per row or per block is multiplied out; any other quantisation is refused by name.

Sources: DeepSeek-V3's `weight_scale_inv` (128 × 128 blocks), and compressed-tensors' `weight_scale`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.settings import settings_of
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo
from mmgrid.merging.models.view import SourceView

QUANTISATION = "quantization_config"
CODES = ("int8", "uint8", "float8_e4m3fn", "float8_e5m2")  # types that quantised weights may be stored in
_SCALES = ("_scale_inv", "_scale")
_OF_ACTIVATIONS = re.compile(r"(?:^|\.)(?:input_scale|[kv]_scale|[kv]_proj\.output_scale|activation_scale)$")
# What other formats store beside their codes.
_FORMATS = {
    "GPTQ or AWQ": re.compile(r"\.(?:qweight|qzeros|g_idx)$"),
    "bitsandbytes": re.compile(r"\.(?:absmax|quant_map|nested_absmax|quant_state\..*|SCB|weight_format)$"),
    "MXFP4": re.compile(r"_(?:blocks|scales)$"),
    "compressed-tensors": re.compile(r"\.(?:weight_packed|weight_shape|weight_zero_point)$"),
    "quanto": re.compile(r"\.(?:weight\._data|weight\._scale)$"),
}
_BLOCK = (128, 128)  # where a config does not say


def open_model(path: Path) -> Source:
    """Open the folder, or the safetensors file, of a model.

    Raises:
        MergeError: weights are missing or incomplete, or quantised in a way that is not multiplied out.
    """
    folder = TensorFolder(path)
    try:
        return _multiplied_out(folder)
    except BaseException:
        folder.close()
        raise


def _multiplied_out(folder: TensorFolder) -> Source:
    said = settings_of(folder.path).get(QUANTISATION)
    said = said if isinstance(said, Mapping) else {}
    method = str(said.get("quant_method", ""))
    for format_, name in _FORMATS.items():
        found = [each for each in folder if name.search(each)]
        if found and (format_ != "MXFP4" or method == "mxfp4"):
            raise _refused(folder, method or format_, found)
    scales = {name: scale for name in folder if (scale := _scale_of(name, folder)) is not None}
    if not scales:
        codes = [name for name in folder if folder.info(name).dtype in CODES]
        if method and codes:
            raise _refused(folder, method, codes)
        return folder
    return DequantisedModel(folder, scales, _block_of(said), _type_of(folder))


def _refused(folder: TensorFolder, method: str, names: list[str]) -> MergeError:
    return MergeError(
        f"{folder.path}: is quantised ({method}: {listing(names, 2)}): its codes mean nothing without their scales. Name "
        "the model that it was made from, or dequantise it first (transformers: `model.dequantize()`, then "
        "`save_pretrained`)"
    )


def _scale_of(name: str, folder: TensorFolder) -> str | None:
    """The name of the scales of a tensor of 8-bit floats; None if it is none, or has no scales."""
    if not folder.info(name).dtype.startswith("float8"):
        return None
    return next((name + end for end in _SCALES if name + end in folder), None)


def _block_of(said: Mapping[str, Any]) -> tuple[int, int]:
    given = said.get("weight_block_size")
    if isinstance(given, list | tuple) and len(given) == 2 and all(type(size) is int and size > 0 for size in given):
        return given[0], given[1]
    return _BLOCK


def _type_of(folder: TensorFolder) -> str:
    """The type that the model is computed in: that of its config, else bfloat16."""
    settings = settings_of(folder.path)
    said = str(settings.get("dtype") or settings.get("torch_dtype") or "").removeprefix("torch.")
    return said if said in ("float32", "bfloat16", "float16") else "bfloat16"


class DequantisedModel(SourceView):
    """A model of 8-bit floats as `Tensors`: code times scale, in float32, unrounded.

    Args:
        folder: the model's files.
        scales: tensor of codes → tensor of its scales.
        block: rows and columns that share a scale, where the scales are a matrix of several rows and columns.
        native: the type that the result is stored in.

    Attributes:
        multiplied: the tensors of scales, which the view does not show.

    Raises:
        MergeError: the scales of a tensor do not fit its shape.
    """

    def __init__(self, folder: TensorFolder, scales: Mapping[str, str], block: tuple[int, int], native: str) -> None:
        unread = {name for name in folder if _OF_ACTIVATIONS.search(name)}
        super().__init__(folder, hidden={*scales.values(), *unread})
        self.multiplied = sorted({*scales.values(), *unread})
        self._native = native
        self._grids = {name: self._grid(name, scale, block) for name, scale in scales.items()}

    def info(self, name: str) -> TensorInfo:
        info = super().info(name)
        return TensorInfo("float32", info.shape, native=self._native) if name in self._grids else info

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        stored = super().read(name, start, stop)
        if name not in self._grids:
            return stored
        info = super().info(name)
        scales, rows, columns = self._grids[name]
        width = info.shape[-1] if info.shape else 1
        values = widen(stored, info.dtype).astype(np.float32, copy=True)
        place = np.arange(start, stop)
        values *= scales[place // width // rows, place % width // columns]
        return values

    def _grid(self, name: str, scale: str, block: tuple[int, int]) -> tuple[np.ndarray, int, int]:
        """The scales of a tensor as a matrix, and how many rows and columns of the tensor one of them covers."""
        info, about = super().info(name), super().info(scale)
        height = int(np.prod(info.shape[:-1], dtype=np.int64)) if info.shape else 1
        width = info.shape[-1] if info.shape else 1
        values = widen(super().read(scale, 0, about.size), about.dtype).astype(np.float32, copy=True)
        if about.size == 1:
            return values.reshape(1, 1), height, width
        if about.size == height and about.shape[-1:] in ((1,), (height,)):
            return values.reshape(height, 1), 1, width
        down, across = -(-height // block[0]), -(-width // block[1])
        if len(info.shape) == 2 and about.shape == (down, across):
            return values.reshape(down, across), *block
        raise MergeError(
            f"{self.path}: {scale} is {list(about.shape)}, which does not fit {name} {list(info.shape)} in blocks of "
            f"{block[0]} × {block[1]}; is {QUANTISATION} in its config right?"
        )
