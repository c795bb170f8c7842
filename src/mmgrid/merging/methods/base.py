"""What a merge method is: a pure function of tensors, and a declaration of what it wants and gives.

The engine reads, casts, checks, subtracts the base, adds it back, rounds and writes. A method only says how
several tensors become one, so its file reads like the paper's formula. Its options are its keyword-only
arguments: their names, types and defaults are taken from the signature, once, so that recipe, command line
and documentation cannot drift from the code.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import Tensor

from mmgrid.merging.errors import MergeError, nearest

Needs = Literal["element", "row", "tensor", "model"]
Returns = Literal["delta", "weights"]
Base = Literal["required", "optional", "none"]
_ARGUMENTS = ("tensors", "weights")


@dataclass(frozen=True)
class Method:
    """A merge method.

    Attributes:
        name: what recipes call it.
        needs: what must be seen at once: single elements, rows, whole tensors, or the whole model beforehand.
        returns: "weights" for a method of the parameters θᵢ themselves, "delta" for one of the task vectors
            τᵢ = θᵢ − θ₀, whose result the engine scales and adds to θ₀.
        base: whether θ₀ must, may or must not be given.
        combine: `(tensors, weights, **options) → tensor`. `tensors` are θᵢ or τᵢ in float32, of one shape,
            in the order of the sources' names; `weights` the sources' weights in that order. Changes none of
            them.
        options: the pydantic model of its options.
    """

    name: str
    needs: Needs
    returns: Returns
    base: Base
    combine: Callable[..., Tensor]
    options: type[BaseModel]

    def __call__(self, tensors: Sequence[Tensor], weights: Sequence[float], **options: Any) -> Tensor:
        """The merged tensor, in float32; see `combine`."""
        return self.combine(tensors, weights, **options)

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options with their defaults filled in.

        Raises:
            MergeError: an option is unknown or has a wrong value.
        """
        known = self.options.model_fields
        for option in options:
            if option not in known:
                raise MergeError(
                    f"{self.name}: unknown option {option!r}{nearest(option, known)}; known: {', '.join(known)}"
                )
        try:
            return self.options.model_validate(dict(options)).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            raise MergeError(f"{self.name}: option {first['loc'][0]}: {first['msg']}") from error


def merge_method(*, needs: Needs, returns: Returns, base: Base) -> Callable[[Callable[..., Tensor]], Method]:
    """Declare a function as the merge method of its name. Its keyword-only arguments are the options."""

    def declare(combine: Callable[..., Tensor]) -> Method:
        name = combine.__name__  # pyright: ignore[reportFunctionMemberAccess]
        signature, hints = inspect.signature(combine), typing.get_type_hints(combine, include_extras=True)
        fields: dict[str, Any] = {}
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                assert parameter.default is not parameter.empty, f"{name}: {parameter.name} needs a default"
                fields[parameter.name] = (hints[parameter.name], Field(default=parameter.default))
        positional = tuple(key for key in signature.parameters if key not in fields)
        assert positional == _ARGUMENTS, f"{name}: a method takes {_ARGUMENTS}, then keyword-only options"
        config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
        options = create_model(f"{name}_options", __config__=config, **fields)
        return Method(name, needs, returns, base, combine, options)

    return declare


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢ xᵢ in the given order, as a new tensor.

    Each product is rounded before it is added. `add(alpha=…)` fuses the two on processors that can, and so gives
    other bits on other machines (measured: in 20 % of elements), and bits that numpy cannot repeat.
    """
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += tensor * weight
    return total


def sum_of_weights(name: str, weights: Sequence[float]) -> float:
    """Σ wᵢ, exactly rounded, for methods that divide by it.

    Raises:
        MergeError: it is zero, or so near to it that only rounding is left.
    """
    total = math.fsum(weights)
    if abs(total) <= 1e-12 * math.fsum(map(abs, weights)):
        raise MergeError(f"{name}: the weights add up to zero, which nothing can be divided by; set normalise = false")
    return total
