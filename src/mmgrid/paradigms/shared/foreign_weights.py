"""Weights in files of other projects, read tensor by tensor, and copied under other names without rounding.

Safetensors are read run by run. Pickled files are read by `torch.load(weights_only=True)`, which executes nothing, and
mapped into memory, so that a large model is never in memory as a whole.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmgrid.files import inside
from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.in_memory import StateDictTensors
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo, Tensors
from mmgrid.paradigms.layouts import LayoutError

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_RUN = 1 << 24  # elements that are copied at once
_WRAPPERS = ("_forward_module.", "module.", "_orig_mod.")  # of DeepSpeed, DDP and torch.compile
_INSIDE = ("model", "state_dict", "module")  # where a training's state keeps the weights


@dataclass(frozen=True)
class Copied:
    """A tensor of a copy: its name in the source, and its shape, with as many elements as there."""

    source: str
    shape: tuple[int, ...]


class Renamed:
    """Tensors under other names, as `Tensors`; names: new → old."""

    def __init__(self, tensors: Tensors, names: Mapping[str, str]) -> None:
        self._tensors, self._names = tensors, names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def info(self, name: str) -> TensorInfo:
        return self._tensors.info(self._names[name])

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._tensors.read(self._names[name], start, stop)


@contextmanager
def open_weights(source: Path) -> Iterator[Tensors]:
    """The weights at `source`: a folder with safetensors or pickled files (one or shards), or one such file.

    Raises:
        LayoutError: there are none, they are a training's ZeRO shards, or a pickled file holds more than weights.
        MergeError: safetensors are damaged.
    """
    _refuse_zero_shards(source)
    pickled = _pickled_files(source)
    if pickled:
        loaded: dict[str, Tensor] = {}
        for file in pickled:
            loaded |= _unpickled(file)
        yield _unwrapped(StateDictTensors(loaded))
        return
    with TensorFolder(source) as tensors:
        yield _unwrapped(tensors)


def copy_weights(source: Tensors, tensors: Mapping[str, Copied], file: Path) -> None:
    """Write a safetensors file with tensors of `source` under new names, byte for byte; never a whole model at once."""
    infos = {name: TensorInfo(source.info(one.source).dtype, one.shape) for name, one in tensors.items()}
    with TensorWriter(file, infos) as writer:
        for name, one in tensors.items():
            size = math.prod(one.shape)
            for start in range(0, size, _RUN):
                writer.write(name, start, source.read(one.source, start, min(start + _RUN, size)))


def pickle_weights(source: Tensors, tensors: Mapping[str, Copied], file: Path) -> None:
    """Write a file for `torch.load` with tensors of `source` under new names. Holds the model in memory, once."""
    state = {}
    for name, one in tensors.items():
        info = source.info(one.source)
        stored = np.array(source.read(one.source, 0, info.size))
        words = torch.from_numpy(stored.view(f"i{stored.itemsize}" if stored.itemsize > 1 else "u1"))
        state[name] = words.view(getattr(torch, info.dtype)).reshape(one.shape)
    torch.save(state, file)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON object of a foreign folder. Raises LayoutError if it cannot be read."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        problem: object = "not a JSON object"
    except (OSError, ValueError, RecursionError) as error:
        problem = error
    raise LayoutError(f"{folder / name}: cannot be read ({problem})") from None


def _refuse_zero_shards(source: Path) -> None:
    if not source.is_dir():
        shards = [source] if "optim_states" in source.name or source.name.startswith("zero_pp_rank") else []
    else:
        places = [source, *(below for below in source.iterdir() if below.is_dir())]
        shards = [file for place in places for file in place.glob("*optim_states.pt")]
        if any(source.glob("*.safetensors")) or (source / "pytorch_model.bin").is_file():
            shards = []  # the whole weights lie next to them
    if shards:
        raise LayoutError(
            f"{source}: holds the shards of a training with DeepSpeed ZeRO ({shards[0].name}), not whole weights; "
            "DeepSpeed has put zero_to_fp32.py next to them: run `python zero_to_fp32.py . pytorch_model.bin` there, "
            "and import pytorch_model.bin"
        )


def _pickled_files(source: Path) -> list[Path]:
    """The pickled files of a folder without safetensors, or the file itself."""
    if source.is_file():
        return [source] if source.suffix in PICKLED else []
    if any(source.glob("*.safetensors")):
        return []
    index = source / "pytorch_model.bin.index.json"
    if index.is_file():
        try:
            return sorted(
                {
                    inside(source, shard, allow_links=True)
                    for shard in read_config(source, index.name)["weight_map"].values()
                }
            )
        except MALFORMED as error:
            raise LayoutError(f"{index}: is not an index of shards ({error!r})") from None
    whole = source / "pytorch_model.bin"
    found = [whole] if whole.is_file() else sorted(file for file in source.iterdir() if file.suffix in PICKLED)
    if not found:
        raise LayoutError(
            f"{source}: holds no weights: no *.safetensors, and no {', '.join('*' + end for end in PICKLED)}"
        )
    if len(found) > 1:
        raise LayoutError(f"{source}: holds {', '.join(file.name for file in found[:4])}: name the file to import")
    return found


def _unpickled(file: Path) -> dict[str, Tensor]:
    try:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # older files cannot be mapped into memory
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise LayoutError(
            f"{file}: cannot be read as weights ({str(error).strip().splitlines()[0]}); files that hold more than "
            "tensors are not opened, since that could run their code: save the model's state_dict() alone"
        ) from None
    for name in _INSIDE:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    weights = (
        {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
        if isinstance(found, dict)
        else {}
    )
    if not weights:
        raise LayoutError(f"{file}: holds no weights by name; save the model's state_dict()")
    return weights


def _unwrapped(tensors: Tensors) -> Tensors:
    """Without the prefix that a wrapper of the training has put before every name."""
    names = {name: name for name in tensors}
    for prefix in _WRAPPERS * 2:
        if names and all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): old for name, old in names.items()}
    return Renamed(tensors, names)
