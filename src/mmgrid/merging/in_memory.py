"""Merges state dicts: torch tensors in memory, by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmgrid.merging.arrays.floats import STORAGE
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.engine.run import Variant, run
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import Method, get_method
from mmgrid.merging.models.quantisation import check_plain
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.models.twins import twins_in
from mmgrid.merging.plan.block_layout import Action, OutputBlock, lay_out_sources
from mmgrid.merging.plan.plan import BASE, plan_merge
from mmgrid.merging.plan.program import Program, Scale, apply_method, make_program
from mmgrid.merging.plan.rules import Rule, apply_rules, check_bases

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Blocks:
    """The token blocks of models in memory.

    Attributes:
        tables: name of the source → its blocks. All rows of a source that is not named belong to the backbone.
        first: the source whose blocks come first in the result.
        rules: name of a block, or a pattern → `merge`, `keep`, `keep_all`, `append` or `drop`, as in a recipe.
        base: the base's blocks.
    """

    tables: Mapping[str, BlockTable]
    first: str
    rules: Mapping[str, Action] = field(default_factory=dict)
    base: BlockTable | None = None

    def lay_out(
        self, sources: Mapping[str, Tensors], base: Tensors | None
    ) -> tuple[tuple[OutputBlock, ...], frozenset[str]]:
        """The blocks of the result, and the names of the tensors that they describe."""
        return lay_out_sources(self.tables, sources, base, self.base, self.first, self.rules)


def merge_state_dicts(
    method: str | Method,
    sources: Mapping[str, StateDict | Tensors] | Sequence[StateDict | Tensors],
    *,
    base: StateDict | Tensors | None = None,
    weights: Mapping[str, float] | Sequence[float] | None = None,
    scale: Scale = 1.0,
    seed: int = 0,
    dtype: torch.dtype | None = torch.float32,
    workers: int | None = None,
    blocks: Blocks | None = None,
    rules: Sequence[Rule] = (),
    statistics: Mapping[str, StateDict | Tensors] | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Merge models that are in memory.

    Args:
        method: a name in `METHODS`, or a method.
        sources: name of the source → its state dict, or an open folder of tensors. Sources in a list are named
            `model1`, `model2`, … (`model01`, … from ten sources on). Not changed.
        base: the tensors of θ₀; required by methods of task vectors, refused by methods without a base.
        weights: name of the source → wᵢ; a source that is not named has 1. For sources in a list also a list.
        scale: λ, the factor on the delta; a list is spread evenly over the depth of the layers.
        seed: for methods that draw random numbers.
        dtype: type of the merged tensors; None for the widest among the sources, at most float32.
        workers: number of threads; does not change the result. Default: one per core.
        blocks: the token blocks of the models, if some have token rows that others lack.
        rules: other settings for some of the tensors; the first rule that fits a tensor counts.
        statistics: name of the source → what was measured of it (`KIND:TENSOR`), for methods that take that.
        options: the method's options.

    Returns:
        All tensors of the sources, sorted by name, on the sources' device. They share no memory with the sources.
        Tensors that are tied in all sources (and the base) are tied in the result; tensors outside of layers that have
        the same bytes in all of them are merged once.

    Raises:
        MergeError: method, options, weights or tensors do not fit; the message names the tensor and the source.
    """
    method = get_method(method) if isinstance(method, str) else method
    sources, named_weights = _named(sources, weights)
    tensors = {name: _as_tensors(source) for name, source in sources.items()}
    base_tensors = None if base is None else _as_tensors(base)
    for name, held in {**tensors, **({} if base_tensors is None else {BASE: base_tensors})}.items():
        check_plain(held, name)
    applied = apply_method(method, tensors, base_tensors, named_weights, scale, options)
    opened = [rule if rule.base is None else replace(rule, base=_as_tensors(rule.base)) for rule in rules]
    ruled = apply_rules(opened, method, tensors, base_tensors, named_weights or {}, scale, options)
    measured = {name: _as_tensors(found) for name, found in (statistics or {}).items()}
    program = make_program(tensors, [*ruled, applied], seed, measured)
    output_blocks, in_blocks = blocks.lay_out(program.sources, base_tensors) if blocks else ((), frozenset())
    dtype_name = None if dtype is None else str(dtype).removeprefix("torch.")
    plan = plan_merge(program.sources, base_tensors, dtype_name, blocks=output_blocks, block_tensors=in_blocks)
    check_bases(program, plan, base_tensors)
    twins = _twins(program, base_tensors, plan.infos)
    bases = [base_tensors, *(rule.base for rule in opened)]
    every = [*tensors.values(), *(one for one in bases if one is not None)]
    copies = twins_in(every, {*in_blocks, *twins, *twins.values()}, program.index_of)
    result = TorchSink(plan.infos, twins, copies)
    run(program, plan, [Variant(result)], workers=workers or default_workers(), skip={**twins, **copies})
    device = next((t.device for held in sources.values() if isinstance(held, Mapping) for t in held.values()), None)
    return result.tensors(device)


def _named(
    sources: Mapping[str, StateDict | Tensors] | Sequence[StateDict | Tensors],
    weights: Mapping[str, float] | Sequence[float] | None,
) -> tuple[Mapping[str, StateDict | Tensors], Mapping[str, float] | None]:
    """Sources and weights by name."""
    if not isinstance(sources, Mapping):
        digits = len(str(len(sources)))  # sums and chains over time run in the order of names
        sources = {f"model{number:0{digits}}": source for number, source in enumerate(sources, 1)}
    elif weights is not None and not isinstance(weights, Mapping):
        raise MergeError("weights: a list goes with a list of sources; give a weight for each source's name")
    if weights is None or isinstance(weights, Mapping):
        return sources, weights
    if len(weights) != len(sources):
        raise MergeError(f"weights: there are {len(weights)} weights for {len(sources)} sources; give one for each")
    return sources, dict(zip(sources, weights, strict=True))


class StateDictTensors:
    """A state dict as `Tensors`. Tensors on a device are copied to the CPU one run at a time."""

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
            raise MergeError(f"tensor {name}: type {tensor.dtype} is not supported")
        return TensorInfo(dtype, tuple(tensor.shape))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        return _stored(self.tensors[name].detach().reshape(-1)[start:stop].cpu())


class TorchSink:
    """New tensors that runs are written to; `twins` share the memory of another one, `copies` have its values."""

    def __init__(self, infos: Mapping[str, TensorInfo], twins: Mapping[str, str], copies: Mapping[str, str]) -> None:
        self._twins, self._copies = twins, copies
        self._tensors = {
            name: torch.empty(info.shape, dtype=getattr(torch, info.dtype))
            for name, info in infos.items()
            if name not in twins and name not in copies
        }
        self._views = {name: _stored(tensor.reshape(-1)) for name, tensor in self._tensors.items()}

    def write(self, name: str, start: int, stored: np.ndarray) -> None:
        self._views[name][start : start + stored.size] = stored.reshape(-1)

    def tensors(self, device: torch.device | None) -> dict[str, Tensor]:
        """All tensors by name, sorted."""
        moved = {name: tensor.to(device or "cpu") for name, tensor in self._tensors.items()}
        moved |= {name: moved[first] for name, first in self._twins.items()}
        moved |= {name: moved[first].clone() for name, first in self._copies.items()}
        return dict(sorted(moved.items()))


def _as_tensors(tensors: StateDict | Tensors) -> Tensors:
    return StateDictTensors(tensors) if isinstance(tensors, Mapping) else tensors


def _stored(flat: Tensor) -> np.ndarray:
    """A flat tensor's memory as a numpy array of the type in `STORAGE`."""
    dtype = str(flat.dtype).removeprefix("torch.")
    flat = flat.contiguous()
    if dtype == "bfloat16":
        return flat.view(torch.int16).numpy().view(STORAGE[dtype])
    if dtype.startswith("float8"):
        return flat.view(torch.uint8).numpy()
    return flat.numpy()


def _twins(program: Program, base: Tensors | None, infos: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Tensor → the earlier tensor that it is tied to in all sources and bases, if the same rule merges both."""
    held: Sequence[Tensors] = [*program.sources.values(), *([base] if base is not None else [])]
    if not all(isinstance(tensors, StateDictTensors) for tensors in held):
        return {}
    first: dict[tuple[Any, ...], str] = {}
    twins = {}
    for name, info in infos.items():
        found = [tensors.tensors[name] for tensors in held if isinstance(tensors, StateDictTensors) and name in tensors]
        rule = program.index_of(name)
        if any(tensor.is_meta or not tensor.numel() for tensor in found):
            continue
        own = program.applied(name).base
        if own is not None and own is not base:
            if not isinstance(own, StateDictTensors):
                continue
            found += [own.tensors[name]] if name in own else []
        place = tuple((tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) for tensor in found)
        if first.setdefault((info.dtype, rule, place), name) != name:
            twins[name] = first[info.dtype, rule, place]
    return twins
