"""Opens a model's folder; a model of codes with scales beside them is read as code times scale.

8-bit floats with scales per tensor, row, column, group or block are multiplied out, and so are int8 codes with a scale per
row; any other quantisation is refused by name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmgrid.merging.arrays.floats import STORAGE, widen
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.quantisation import Quantised, block_in, quantised_in
from mmgrid.merging.models.settings import settings_of, text_part
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo
from mmgrid.merging.models.view import SourceView

_BLOCK = (128, 128)  # where a config does not say, and scales fit


def open_model(path: Path) -> Source:
    """Open the folder, or the safetensors file, of a model.

    Raises:
        MergeError: weights are missing or incomplete, or quantised in a way that is not multiplied out.
    """
    folder = TensorFolder(path)
    try:
        settings = settings_of(folder.path)
        found = quantised_in(folder, settings, folder.path)
        return DequantisedModel(folder, found, block_in(settings), _type_of(settings)) if found.scales else folder
    except BaseException:
        folder.close()
        raise


def _type_of(settings: dict[str, object]) -> str:
    """The type that the model is computed in: that of its config, else bfloat16."""
    for part in (settings, text_part(settings)):
        said = str(part.get("dtype") or part.get("torch_dtype") or "").removeprefix("torch.")
        if said in ("float32", "bfloat16", "float16"):
            return said
    return "bfloat16"


class DequantisedModel(SourceView):
    """A model of 8-bit codes as `Tensors`: code times scale, in float32, unrounded.

    Args:
        folder: the model's files.
        found: its codes and scales.
        block: rows and columns that share a scale, where the scales are a matrix of several rows and columns. Default: 128
            each, or what divides the tensor evenly.
        native: the type that the result is stored in.

    Attributes:
        hidden: the tensors of scales, which the view does not show, and why.

    Raises:
        MergeError: the scales of a tensor do not fit its shape.
    """

    def __init__(self, folder: TensorFolder, found: Quantised, block: tuple[int, ...] | None, native: str) -> None:
        multiplied = dict.fromkeys(found.scales.values(), "multiplied into the weights, which it is the scale of")
        self.hidden = multiplied | dict.fromkeys(found.unread, "the scale of activations, on which no weight depends")
        super().__init__(folder, hidden=sorted(self.hidden))
        self._native = native
        self._grids = {name: self._grid(name, scale, block) for name, scale in found.scales.items()}

    def info(self, name: str) -> TensorInfo:
        info = super().info(name)
        return TensorInfo("float32", info.shape, native=self._native) if name in self._grids else info

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        stored = super().read(name, start, stop)
        if name not in self._grids:
            return stored
        info = super().info(name)
        codes = widen(stored, info.dtype) if info.dtype.startswith("float8") else stored
        values = codes.astype(np.float32, copy=True)
        scales, sizes = self._grids[name]
        place, index = np.arange(start, stop), np.zeros(stop - start, np.int64)
        within = np.cumprod((1, *info.shape[:0:-1]))[::-1]  # elements of the tensor for one step along each axis
        for step, length, size, count in zip(within.tolist(), info.shape, sizes, scales.shape, strict=True):
            if count > 1:
                index = index * count + place // step % length // size
        values *= scales.reshape(-1)[index]
        return values

    def _grid(self, name: str, scale: str, block: tuple[int, ...] | None) -> tuple[np.ndarray, tuple[int, ...]]:
        """The scales of a tensor with as many axes as it, and how many of its elements one covers along each of them."""
        info, about = super().info(name), super().info(scale)
        if not about.dtype.startswith(("float", "bfloat")) or about.dtype not in STORAGE:
            raise MergeError(f"{self.path}: {scale} is {about.dtype}; scales must be floating-point numbers")
        values = widen(super().read(scale, 0, about.size), about.dtype).astype(np.float32, copy=True)
        axes, shape = info.shape, about.shape
        if about.size == 1:
            shape = (1,) * len(axes)
        elif len(shape) < len(axes) and about.size in axes[:1]:  # one for each row, or each expert
            shape = (about.size, *(1,) * (len(axes) - 1))
        elif about.size == int(np.prod(axes[:-1], dtype=np.int64)) and shape[-1:] == (1,):
            shape = (*axes[:-1], 1)
        of_blocks = (*(1,) * (len(axes) - 2), *(block or _BLOCK))[-len(axes) :]
        each = zip(axes, shape, of_blocks, strict=True) if len(shape) == len(axes) else ()
        sizes = [_size(length, count, size, evenly=block is None) for length, count, size in each]
        if len(sizes) != len(axes) or None in sizes:
            rows, columns = block or _BLOCK
            raise MergeError(
                f"{self.path}: {scale} is {list(about.shape)}, which does not fit {name} {list(info.shape)} in blocks of "
                f"{rows} × {columns}; is quantization_config in its config right?"
            )
        return values.reshape(shape), tuple(size for size in sizes if size is not None)


def _size(length: int, count: int, block: int, *, evenly: bool) -> int | None:
    """How many elements of an axis one of `count` scales covers; None if they do not fit."""
    if count == 1:
        return length or 1
    if count == -(-length // block):
        return block
    return length // count if count == length or (evenly and length % count == 0) else None
