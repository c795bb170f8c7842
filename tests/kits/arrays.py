"""Model folders from numpy arrays of any type, and back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.merging.arrays.floats import STORAGE, narrow, widen
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo

Arrays = Mapping[str, np.ndarray]


def write_model(folder: Path, arrays: Arrays, dtype: str = "float32", **config: Any) -> Path:
    """Writes a model; float32 arrays are rounded to `dtype`, others are stored as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").unlink(missing_ok=True)
    types = {name: _type_of(array, dtype) for name, array in arrays.items()}
    infos = {name: TensorInfo(types[name], array.shape) for name, array in arrays.items()}
    with TensorWriter(folder / "model.safetensors", infos) as writer:
        for name, array in arrays.items():
            flat = np.ascontiguousarray(array).reshape(-1)
            writer.write(name, 0, narrow(flat, dtype) if array.dtype == np.float32 else flat)
    (folder / "config.json").write_text(json.dumps({"model_type": "made up", **config}))
    return folder


def _type_of(array: np.ndarray, dtype: str) -> str:
    if array.dtype == np.float32:
        return dtype
    return next(name for name, stored in STORAGE.items() if stored == array.dtype and name != "bfloat16")


def bytes_of(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Name → type, shape and bytes of each tensor."""
    with TensorFolder(folder) as tensors:
        return {
            name: (info.dtype, info.shape, tensors.read(name, 0, info.size).tobytes())
            for name in tensors
            for info in [tensors.info(name)]
        }


def values_of(folder: Path) -> dict[str, np.ndarray]:
    """Name → values of each floating-point tensor, in float32."""
    with TensorFolder(folder) as tensors:
        return {
            name: widen(tensors.read(name, 0, info.size), info.dtype).reshape(info.shape).copy()
            for name in tensors
            for info in [tensors.info(name)]
        }
