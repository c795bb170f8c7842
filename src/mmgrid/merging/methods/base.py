"""What a merge method is: a pure function of tensors, and a declaration of what it wants and gives.

The engine reads, widens, checks, subtracts the base, runs the stages, adds the base back, rounds and writes. A method
only says how several tensors become one, so its file reads like the paper's formula. Its options are its
keyword-only arguments: their names, types and defaults are taken from the signature, once, so that recipe, command
line and documentation cannot drift from the code.

There are three kinds, by what the function sees:

- `combine(tensors, weights, **options)`: runs of elements, cut anywhere (`needs="element"`), after the method's
  `stages` have changed each task vector;
- `coefficients(gram, weights, **options)`: the inner products of a tensor's sources; the result is their linear
  combination (`needs="tensor"`, without holding a tensor);
- `combine` with `needs="tensor"` and no stages of its own: whole tensors in their own shape, for linear algebra.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.methods.combination import Combination, Combining
from mmgrid.merging.methods.stages import STAGES, Stage

Needs = Literal["element", "row", "tensor", "model"]
Returns = Literal["delta", "weights"]
Base = Literal["required", "optional", "none"]
StageSpec = dict[str, Any]
_ARGUMENTS = (("tensors", "weights"), ("gram", "weights"))


@dataclass(frozen=True)
class Preset:
    """Options under one name; with `equal_weights` a source that is given no weight has 1/N, not 1."""

    options: Mapping[str, Any]
    equal_weights: bool = False


@dataclass(frozen=True)
class Method:
    """A merge method.

    Attributes:
        name: what recipes call it.
        needs: what must be seen at once: single elements, rows, whole tensors, or the whole model beforehand.
        returns: "weights" for a method of the parameters θᵢ themselves, "delta" for one of the task vectors
            τᵢ = θᵢ − θ₀, whose result the engine scales and adds to θ₀.
        base: whether θ₀ must, may or must not be given.
        function: what computes; see the module. `tensors` are θᵢ or τᵢ in float32, of one shape, in the order of
            the sources' names; `weights` the sources' weights in that order. Changes none of them.
        options: the pydantic model of its options.
        own_stages: the method's stages, from its options; None if it has none.
        takes_gram: whether `function` gives coefficients from inner products.
        presets: sets of options with a name.
        per_source: options of the stages that may be given per source, as a mapping from name to value.
        combining: what `function` does, as numbers for a compiled loop; None if it cannot be said so.
    """

    name: str
    needs: Needs
    returns: Returns
    base: Base
    function: Callable[..., Any]
    options: type[BaseModel]
    own_stages: Callable[[Mapping[str, Any]], Sequence[Stage]] | None = None
    takes_gram: bool = False
    presets: Mapping[str, Preset] = field(default_factory=dict)
    per_source: tuple[str, ...] = ()
    combining: Combining | None = None

    @property
    def whole_tensors(self) -> bool:
        """Whether `function` must be handed whole tensors in their shape."""
        return self.needs == "tensor" and not self.takes_gram and self.own_stages is None

    @property
    def takes_stages(self) -> bool:
        """Whether task vectors may be changed by stages first."""
        return self.returns == "delta" and not self.whole_tensors and not self.takes_gram

    def stages(self, options: Mapping[str, Any]) -> tuple[Stage, ...]:
        """All stages under resolved `options`: those that the recipe names, then the method's own."""
        own = () if self.own_stages is None else self.own_stages(options)
        return (*(read_stage(self.name, spec) for spec in options.get("stages", ())), *own)

    def combine(self, tensors: Sequence[Floats], weights: Sequence[float], options: Mapping[str, Any]) -> Floats:
        """Runs of elements, or whole tensors, as one; stages have been run. Not for methods that take a gram."""
        own = {name: value for name, value in options.items() if name != "stages" and name not in self.per_source}
        return self.function(tensors, weights, **own)

    def coefficients(self, gram: np.ndarray, weights: Sequence[float], options: Mapping[str, Any]) -> Sequence[float]:
        """The factor of each source, from the inner products float64 [n, n] of their tensors."""
        return self.function(gram, weights, **options)

    def combination(
        self, weights: Sequence[float], options: Mapping[str, Any], coefficients: Sequence[float] | None
    ) -> Combination | None:
        """What becomes of runs, as numbers; `coefficients` are those of a method that takes a gram. None: not so."""
        if self.takes_gram:
            return None if coefficients is None else Combination(coefficients)
        return None if self.combining is None else self.combining(weights, options)

    def for_source(self, options: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Resolved options as they are for one source."""
        split = [name for name in self.per_source if isinstance(options.get(name), Mapping)]
        return {**options, **{name: options[name][source] for name in split}}

    def resolve(self, options: Mapping[str, Any], sources: Collection[str] = ()) -> dict[str, Any]:
        """All options with their defaults filled in; `preset` is replaced by what it stands for.

        Args:
            options: option → value; for those that `per_source` names, also name of the source → value, where a
                source that is not named has the default.
            sources: names of the sources.

        Raises:
            MergeError: an option is unknown or has a wrong value, or names a source that there is not.
        """
        split = {
            name: options[name] for name in self.per_source if isinstance(options.get(name), Mapping) and len(sources)
        }
        if not split:
            return self._resolve(options)
        shared = {name: value for name, value in options.items() if name not in split}
        for option, values in split.items():
            for source in values:
                if source not in sources:
                    raise MergeError(
                        f"{self.name}: option {option}: there is no source {source!r}{nearest(source, sources)}; "
                        f"known: {listing(sources)}"
                    )
        each = {
            source: self._resolve({**shared, **{name: of[source] for name, of in split.items() if source in of}})
            for source in sorted(sources)
        }
        first = next(iter(each.values()))
        return {**first, **{name: {source: own[name] for source, own in each.items()} for name in split}}

    def _resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        known = self.options.model_fields
        given = dict(options)
        given = {**self._preset(given.pop("preset", None)).options, **given}
        for option in given:
            if option not in known:
                names = [*known, *(["preset"] if self.presets else [])]
                raise MergeError(
                    f"{self.name}: unknown option {option!r}{nearest(option, names)}; "
                    f"known: {', '.join(names) or 'none'}"
                )
        try:
            resolved = self.options.model_validate(given).model_dump()
            if not resolved.get("stages"):
                resolved.pop("stages", None)
            self.stages(resolved)
        except ValidationError as error:
            first = error.errors()[0]
            place = f"option {first['loc'][0]}: " if first["loc"] else ""
            raise MergeError(f"{self.name}: {place}{first['msg']}") from error
        return resolved

    def weights(self, names: Sequence[str], given: Mapping[str, float], options: Mapping[str, Any]) -> list[float]:
        """The weight of each source in the order of `names`: 1, or 1/N under a preset that says so."""
        equal = self._preset(options.get("preset")).equal_weights
        return [float(given.get(name, 1 / len(names) if equal else 1.0)) for name in names]

    def _preset(self, name: Any) -> Preset:
        if name is None:
            return Preset({})
        if name not in self.presets:
            known = ", ".join(self.presets) or "none"
            raise MergeError(f"{self.name}: unknown preset {name!r}{nearest(str(name), self.presets)}; known: {known}")
        return self.presets[name]


def merge_method(
    *,
    needs: Needs,
    returns: Returns,
    base: Base,
    stages: Callable[[Mapping[str, Any]], Sequence[Stage]] | None = None,
    presets: Mapping[str, Preset] | None = None,
    per_source: tuple[str, ...] = (),
    combining: Combining | None = None,
) -> Callable[[Callable[..., Any]], Method]:
    """Declare a function as the merge method of its name. Its keyword-only arguments are the options."""

    def declare(function: Callable[..., Any]) -> Method:
        name = function.__name__  # pyright: ignore[reportFunctionMemberAccess]
        signature, hints = inspect.signature(function), typing.get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                assert parameter.default is not parameter.empty, f"{name}: {parameter.name} needs a default"
                fields[parameter.name] = (hints[parameter.name], Field(default=parameter.default))
        positional = tuple(key for key in signature.parameters if key not in fields)
        assert positional in _ARGUMENTS, f"{name}: a method takes one of {_ARGUMENTS}, then keyword-only options"
        takes_gram = positional[0] == "gram"
        if returns == "delta" and not takes_gram and (needs != "tensor" or stages is not None):
            fields["stages"] = (list[StageSpec], Field(default=[]))
        config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
        assert set(per_source) <= set(fields), f"{name}: {per_source} must be among its options"
        options = create_model(f"{name}_options", __config__=config, **fields)
        return Method(
            name, needs, returns, base, function, options, stages, takes_gram, presets or {}, per_source, combining
        )

    return declare


def read_stage(method: str, spec: Mapping[str, Any]) -> Stage:
    """A stage from `{"drop": {"drop": 0.1}}`: one name, and its options.

    Raises:
        MergeError: there is no such stage, or it has no such option.
    """
    if len(spec) != 1:
        raise MergeError(f"{method}: stages: each is one name with its options, as in {{drop: {{drop: 0.1}}}}")
    ((name, options),) = spec.items()
    if name not in STAGES:
        raise MergeError(f"{method}: unknown stage {name!r}{nearest(name, STAGES)}; known: {', '.join(STAGES)}")
    try:
        return STAGES[name].model_validate(options or {})
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(STAGES[name].model_fields)
        place = ".".join(str(part) for part in first["loc"])
        raise MergeError(f"{method}: stage {name}: {place}: {first['msg']} (options: {known})") from error


def weighted_sum(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Σ wᵢ xᵢ in the given order, as a new array.

    Each product is rounded before it is added, as every machine can: a fused multiplication and addition gives other
    bits on processors that have it (measured: in 20 % of elements).
    """
    total = np.multiply(tensors[0], np.float32(weights[0]), out=like(tensors[0]))
    product = like(total)
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += np.multiply(tensor, np.float32(weight), out=product)
    return total


def summing(name: str) -> Combining:
    """The weighted sum, divided by the weights under the option `normalise`."""

    def combination(weights: Sequence[float], options: Mapping[str, Any]) -> Combination:
        return Combination(weights, sum_of_weights(name, weights) if options["normalise"] else None)

    return combination


def sum_of_weights(name: str, weights: Sequence[float], remedy: str = "set normalise = false") -> float:
    """Σ wᵢ, exactly rounded, for methods that divide by it.

    Raises:
        MergeError: it is zero, or so near to it that only rounding is left.
    """
    total = math.fsum(weights)
    if abs(total) <= 1e-12 * math.fsum(map(abs, weights)):
        raise MergeError(f"{name}: the weights add up to zero, which nothing can be divided by; {remedy}")
    return total
