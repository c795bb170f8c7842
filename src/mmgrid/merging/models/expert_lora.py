"""Updates of parameters that hold the experts of a layer in one tensor (`target_parameters` of PEFT).

PEFT names the parameters as the class of transformers does, such as `mlp.experts.gate_up_proj`. Files have the same tensor, or
one under an older name, or one matrix for each expert and projection. For several parameters of one module PEFT nests
its layers, which are then called `experts`, `experts.base_layer` …; their shapes say which is whose, and their order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmgrid.merging.models.low_rank import LowRankUpdate
from mmgrid.merging.models.other_names import other_names
from mmgrid.merging.models.source import Source

# Parameter → the projections of one expert that it consists of, row by row, as files may name them.
_PROJECTIONS = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
    "up_proj": (("up_proj",),),
}
# Parameter → the ends of its name in older files, in place of that of `experts.gate_up_proj`.
_OLDER = {
    "gate_up_proj": ("input_linear.weight", "experts.fc1.weight"),
    "down_proj": ("output_linear.weight", "experts.fc2.weight"),
}
# The order in which the classes of transformers declare them, and so PEFT's from the inside out.
_DECLARED = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
_NESTED = re.compile(r"(?:\.base_layer)+$")


class UnknownPlaceError(Exception):
    """Nothing says which tensors of the model an adapter's tensors belong to; the message says why."""


@dataclass(frozen=True)
class _Parameter:
    """A parameter of experts as a file has it.

    Attributes:
        name: in the class of transformers.
        shape: [experts, rows, columns].
        tensors: tensor of the file → its expert, None for all of them, and the row that it begins with.
    """

    name: str
    shape: tuple[int, int, int]
    tensors: Mapping[str, tuple[int | None, int]]


@dataclass(frozen=True)
class _Pair:
    """Two factors; A is [experts · r, columns] and B [rows, r · experts]."""

    down: str
    up: str
    rows: int
    columns: int
    ranks: int

    def turns(self, shape: tuple[int, int, int]) -> set[bool]:
        """How the product fits a parameter: as it is (False), or transposed (True)."""
        if self.ranks % shape[0]:
            return set()
        return {
            turned for turned, own in ((False, shape[1:]), (True, shape[:0:-1])) if own == (self.rows, self.columns)
        }


def expert_updates(
    model: Source,
    adapter: Source,
    modules: Mapping[str, Mapping[str, str]],
    targets: Sequence[str],
    scale: Callable[[str, int], float],
) -> dict[str, LowRankUpdate]:
    """Tensor of the model's file → its update.

    Args:
        modules: in order, module, as the adapter calls it → `lora_A` and `lora_B` → their names in the adapter.
        targets: ends of the names of the parameters that the adapter was trained on.
        scale: of a parameter with this name, of this rank.

    Raises:
        UnknownPlaceError: the factors do not say which tensors they belong to.
    """
    nested: dict[str, list[_Pair]] = {}
    for module, found in modules.items():
        nested.setdefault(_NESTED.sub("", module), []).append(_pair(adapter, module, found))
    placed = [each for module, pairs in nested.items() for each in _placed(model, module, pairs, targets)]
    sure = {turned for pair, parameter in placed for turned in pair.turns(parameter.shape)
            if len(pair.turns(parameter.shape)) == 1}  # fmt: skip
    updates = {}
    for pair, parameter in placed:
        turns = pair.turns(parameter.shape) & sure or pair.turns(parameter.shape)
        if len(turns) > 1:
            raise UnknownPlaceError(f"{parameter.name}: is square, and no other tensor says whether it is transposed")
        experts = parameter.shape[0]
        factor, turned = scale(parameter.name, pair.ranks // experts), turns.pop()
        for tensor, (only, first) in parameter.tensors.items():
            updates[tensor] = LowRankUpdate(pair.down, pair.up, factor, turned, experts, only, first)
    return updates


def _pair(adapter: Source, module: str, found: Mapping[str, str]) -> _Pair:
    if found.keys() != {"lora_A", "lora_B"}:
        raise UnknownPlaceError(f"{module}: has {', '.join(sorted(found))} without its other half")
    down, up = adapter.info(found["lora_A"]).shape, adapter.info(found["lora_B"]).shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise UnknownPlaceError(f"{module}: its factors {list(down)} and {list(up)} have no product")
    return _Pair(found["lora_A"], found["lora_B"], up[0], down[1], down[0])


def _placed(
    model: Source, module: str, pairs: Sequence[_Pair], targets: Sequence[str]
) -> list[tuple[_Pair, _Parameter]]:
    """The parameter of each pair of factors of a module."""
    names = sorted({target.rpartition(".")[2] for target in targets if f".{module}".endswith(_before_last(target))})
    parameters = [_parameter(model, f"{module}.{name}") for name in names]
    if lacking := [f"{module}.{name}" for name, held in zip(names, parameters, strict=True) if held is None]:
        raise UnknownPlaceError(
            f"{lacking[0]}: the model {model.path} has no tensor, and no matrices of experts, of this name"
        )
    held = [parameter for parameter in parameters if parameter is not None]
    if len(held) != len(pairs):
        raise UnknownPlaceError(f"{module}: has {len(pairs)} pairs of factors for {len(held)} parameters")
    fits = [
        order
        for order in itertools.permutations(held)
        if all(pair.turns(parameter.shape) for pair, parameter in zip(pairs, order, strict=True))
    ]
    if len(fits) > 1:
        fits = [order for order in fits if _is_declared([parameter.name for parameter in reversed(order)])]
    if len(fits) != 1:
        shapes = ", ".join(f"{parameter.name} {list(parameter.shape)}" for parameter in held)
        problem = "in several ways" if fits else "in none"
        raise UnknownPlaceError(f"{module}: its factors fit its parameters ({shapes}) {problem}")
    return list(zip(pairs, fits[0], strict=True))


def _is_declared(names: Sequence[str]) -> bool:
    """Whether parameters are in the order of their declaration, as far as it is known."""
    own = [name.rpartition(".")[2] for name in names]
    return set(own) <= set(_DECLARED) and own == sorted(own, key=_DECLARED.index)


def _before_last(target: str) -> str:
    """The end of a module's name that a target asks for, with the point before it; empty if it asks for none."""
    module = target.rpartition(".")[0]
    return f".{module}" if module else ""


def _parameter(model: Source, name: str) -> _Parameter | None:
    """A parameter as the model's file has it; None if it is not there in a form that is known."""
    for one in other_names(name):
        module, _, own = one.rpartition(".")
        whole = [one, f"{one}.weight"]
        if module.endswith(".experts"):
            whole += [f"{module.removesuffix('experts')}{end}" for end in _OLDER.get(own, ())]
        for tensor in whole:
            if tensor in model and len(shape := model.info(tensor).shape) in (2, 3):
                experts, rows, columns = (1, *shape)[-3:]
                return _Parameter(name, (experts, rows, columns), {tensor: (None if len(shape) == 3 else 0, 0)})
        for projections in _PROJECTIONS.get(own, ()):
            if f"{module}.0.{projections[0]}.weight" in model:
                return _of_matrices(model, name, module, projections)
    return None


def _of_matrices(model: Source, name: str, module: str, projections: Sequence[str]) -> _Parameter | None:
    """A parameter whose experts have a matrix for each projection; None if they are not of one shape, or some lack one."""
    count = next(number for number in itertools.count() if f"{module}.{number}.{projections[0]}.weight" not in model)
    tensors: dict[str, tuple[int | None, int]] = {}
    shapes = set()
    for expert in range(count):
        row, columns = 0, set()
        for projection in projections:
            tensor = f"{module}.{expert}.{projection}.weight"
            if tensor not in model or len(shape := model.info(tensor).shape) != 2:
                return None
            tensors[tensor] = (expert, row)
            row += shape[0]
            columns.add(shape[1])
        shapes.add((row, *columns))
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2:
        return None
    return _Parameter(name, (count, shape[0], shape[1]), tensors)
