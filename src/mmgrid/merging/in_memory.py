"""Merging models that are in memory, as torch tensors by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmgrid.merging.arrays.floats import STORAGE
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.engine.run import Variant, run
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import Method, get_method
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo, Tensors
from mmgrid.merging.models.token_blocks import Action, BlockTable, OutputBlock, lay_out_sources
from mmgrid.merging.plan.plan import plan_merge
from mmgrid.merging.plan.program import Job, Scale, make_job, make_program

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Blocks:
    """Token rows of models in memory.

    tables: source → its blocks; who is not named has backbone rows only.  first: the source whose blocks come first in
    the result.  rules: what becomes of a block, by its name or a pattern, see `lay_out`.  base: the base's blocks.
    """

    tables: Mapping[str, BlockTable]
    first: str
    rules: Mapping[str, Action] = field(default_factory=dict)
    base: BlockTable | None = None

    def lay_out(
        self, sources: Mapping[str, Tensors], base: Tensors | None
    ) -> tuple[tuple[OutputBlock, ...], frozenset[str]]:
        return lay_out_sources(self.tables, sources, base, self.base, self.first, self.rules)


def merge_state_dicts(
    method: str | Method,
    sources: Mapping[str, StateDict | TensorFolder],
    *,
    base: StateDict | TensorFolder | None = None,
    weights: Mapping[str, float] | None = None,
    scale: Scale = 1.0,
    seed: int = 0,
    dtype: torch.dtype | None = torch.float32,
    workers: int | None = None,
    blocks: Blocks | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Merge models that are in memory.

    Args:
        method: a name in `METHODS`, or a method.
        sources: name of the source → its tensors by name, or an open folder of them. Not changed.
        base: the tensors of θ₀; required by methods of task vectors, refused by methods that have none.
        weights: name of the source → wᵢ; who is not named has 1.
        scale: λ, the factor on the delta; a list is spread evenly over the depth of the layers.
        seed: for methods that draw.
        dtype: type of the merged tensors; None for the widest among the sources, float32 at most.
        workers: threads; no bit depends on it. Default: one per core.
        blocks: which token rows of the models belong together, where they have rows of their own.
        options: the method's own.

    Returns:
        All tensors of the sources by name, sorted, on the sources' device, sharing no memory with them.
        Tensors that are tied in all sources (and the base) are tied in the result.

    Raises:
        MergeError: method, options, weights or tensors do not fit; names the tensor and the source.
    """
    method = get_method(method) if isinstance(method, str) else method
    opened = {name: _opened(tensors) for name, tensors in sources.items()}
    below = None if base is None else _opened(base)
    job = make_job(opened, [make_program(method, opened, below, weights, scale, options)], seed)
    laid, in_blocks = blocks.lay_out(job.sources, below) if blocks else ((), frozenset())
    dtype_name = None if dtype is None else str(dtype).removeprefix("torch.")
    plan = plan_merge(job.sources, below, dtype_name, blocks=laid, block_tensors=in_blocks)
    twins = _twins(job, below, plan.infos)
    result = TorchSink(plan.infos, twins)
    run(job, plan, [Variant(result)], workers=workers or default_workers(), skip=twins)
    device = next((t.device for held in sources.values() if isinstance(held, Mapping) for t in held.values()), None)
    return result.tensors(device)


class StateDictTensors:
    """A state dict as `Tensors`. Tensors on a device are brought over one at a time."""

    def __init__(self, tensors: StateDict) -> None:
        self.tensors = tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def info(self, name: str) -> TensorInfo:
        tensor = self.tensors[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in STORAGE:
            raise MergeError(f"tensor {name}: type {tensor.dtype} is not merged")
        return TensorInfo(dtype, tuple(tensor.shape))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        return _stored(self.tensors[name].detach().reshape(-1)[start:stop].cpu())


class TorchSink:
    """New tensors that runs are written into; `twins` are those that share the memory of another one."""

    def __init__(self, infos: Mapping[str, TensorInfo], twins: Mapping[str, str]) -> None:
        self._twins = twins
        self._tensors = {
            name: torch.empty(info.shape, dtype=getattr(torch, info.dtype))
            for name, info in infos.items()
            if name not in twins
        }
        self._views = {name: _stored(tensor.reshape(-1)) for name, tensor in self._tensors.items()}

    def write(self, name: str, start: int, stored: np.ndarray) -> None:
        self._views[name][start : start + stored.size] = stored.reshape(-1)

    def tensors(self, device: torch.device | None) -> dict[str, Tensor]:
        """All tensors by name, sorted."""
        moved = {name: tensor.to(device or "cpu") for name, tensor in self._tensors.items()}
        moved |= {name: moved[first] for name, first in self._twins.items()}
        return dict(sorted(moved.items()))


def _opened(tensors: StateDict | TensorFolder) -> Tensors:
    return tensors if isinstance(tensors, TensorFolder) else StateDictTensors(tensors)


def _stored(flat: Tensor) -> np.ndarray:
    """A flat tensor's memory as the numpy array that `STORAGE` names."""
    dtype = str(flat.dtype).removeprefix("torch.")
    flat = flat.contiguous()
    if dtype == "bfloat16":
        return flat.view(torch.int16).numpy().view(STORAGE[dtype])
    if dtype.startswith("float8"):
        return flat.view(torch.uint8).numpy()
    return flat.numpy()


def _twins(job: Job, base: Tensors | None, infos: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Tensor → the earlier one that it is tied to, in all sources and the base."""
    held: Sequence[Tensors] = [*job.sources.values(), *([base] if base is not None else [])]
    if not all(isinstance(tensors, StateDictTensors) for tensors in held):
        return {}
    first: dict[tuple[Any, ...], str] = {}
    twins = {}
    for name, info in infos.items():
        found = [tensors.tensors[name] for tensors in held if isinstance(tensors, StateDictTensors) and name in tensors]
        if any(tensor.is_meta or not tensor.numel() for tensor in found):
            continue
        place = tuple((tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) for tensor in found)
        if first.setdefault((info.dtype, place), name) != name:
            twins[name] = first[info.dtype, place]
    return twins
