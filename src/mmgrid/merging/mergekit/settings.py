"""Evaluates a mergekit parameter for one tensor: scopes, filters, and lists interpolated over the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.lines import at
from mmgrid.merging.mergekit.scalars import scalar_of

if TYPE_CHECKING:
    from mmgrid.merging.mergekit.file import Parameters


def value_of(
    parameter: str, kind: type, scopes: Iterable[Parameters], tensor: str, depth: float, where: str
) -> Any | None:
    """The value of a parameter for a tensor; None if no scope sets one.

    Args:
        parameter: name of the parameter.
        kind: float, int or bool.
        scopes: from the innermost to the outermost; the first with a value for the tensor wins.
        tensor: name of the tensor, which filters are searched in.
        depth: position of the tensor's layer in its slice, from 0 to 1; lists are interpolated there.
        where: prefix of error messages.

    Raises:
        MergeError: a value has the wrong type.
    """
    for scope in scopes:
        if parameter in scope:
            value = _evaluate(scope[parameter], kind, tensor, depth, f"{at(where, scope, parameter)}: {parameter}")
            if value is not None:
                return value
    return None


def _evaluate(setting: Any, kind: type, tensor: str, depth: float, where: str) -> Any | None:
    conditions = [setting] if isinstance(setting, Mapping) else setting
    if not isinstance(conditions, Sequence) or isinstance(conditions, str):
        return scalar_of(setting, kind, where)
    if not any(isinstance(entry, Mapping) for entry in conditions):
        found = _spread([scalar_of(entry, kind, where) for entry in conditions], depth)
        return found if found is None or kind is bool else scalar_of(found, kind, where)
    for condition in conditions:
        if not isinstance(condition, Mapping) or "value" not in condition:
            raise MergeError(f"{where}: each entry needs value and may have filter, but {condition!r} is given")
        part = condition.get("filter")
        if part in (None, "*") or str(part) in tensor:
            return _evaluate(condition["value"], kind, tensor, depth, where)
    return None


def _spread(values: Sequence[Any], depth: float) -> Any | None:
    """The value of a list at a depth: numbers are interpolated, truth values are taken from the entry before it."""
    if not values:
        return None
    place = depth * (len(values) - 1)
    first = int(place)
    if isinstance(values[0], bool):
        return values[first]
    share, second = place - first, min(first + 1, len(values) - 1)
    return (1 - share) * values[first] + share * values[second]


def conditional(parameters: Parameters) -> bool:
    """Whether any of these parameters may depend on the tensor."""
    return any(
        isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))
        for value in parameters.values()
    )


def filters_in(parameters: Parameters) -> list[str]:
    """The texts that filters search for in tensor names."""
    lists = [[setting] if isinstance(setting, Mapping) else setting for setting in parameters.values()]
    entries = [entry for each in lists if isinstance(each, Sequence) for entry in each if isinstance(entry, Mapping)]
    return [str(entry["filter"]) for entry in entries if entry.get("filter") not in (None, "*")]
