"""A merge method: a pure function of tensors, and a declaration of its inputs and its result.

The engine reads, widens, checks, subtracts the base, runs the stages, adds the base back, rounds and writes. A method
only combines several tensors into one, so its file reads like the paper's formula. Its options are its keyword-only
arguments: recipe, command line and documentation take names, types and defaults from the signature, and so cannot
drift from the code. An option that is added after merges have been recorded declares
`json_schema_extra={"absent_means": default}`, and is left out of the options while it has this value, so that what
identifies a merge stays the same.

Methods come in four kinds, by the input of the function:

- `combine(tensors, weights, **options)`: runs of elements, which may begin and end anywhere (`needs="element"`), after
  the method's `stages` have changed each task vector;
- `coefficients(gram, weights, **options)`: the inner products of a tensor's sources; the result is the linear
  combination of the sources with these coefficients (`needs="tensor"`, but no tensor is held in memory). With `along`,
  the function takes the inner products of each row or column at once, and gives each its own coefficients;
- `prepare(passes, weights, **options)`: goes over a tensor's runs as often as it has to (`passes`), and returns the
  function that computes a run of the result (`needs="tensor"`, but no tensor is held in memory);
- `combine` with `needs="tensor"` and no stages of the method: whole tensors in their shape, for linear algebra. Of
  these, `combine(tensors, weights, base, **options)` also receives θ₀.

`combine(tensors, weights, statistics, **options)` also receives what was measured of each source beforehand, from its
file of statistics: runs of the same elements for a method of elements, whole tensors for a method of tensors.
"""

import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError, create_model

from mmgrid.frozen import Frozen
from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError, listing, nearest, problem_of
from mmgrid.merging.methods.combination import Combination, Combining
from mmgrid.merging.methods.passes import OfRun, Passes
from mmgrid.merging.methods.stages import STAGES, Stage

Needs = Literal["element", "row", "tensor", "model"]
Returns = Literal["delta", "weights"]
Base = Literal["required", "optional", "none"]
Along = Literal["tensor", "rows", "columns"]  # what has inner products of its own
StageSpec = dict[str, Any]
_NOTHING = object()
_ARGUMENTS = (
    ("tensors", "weights"),
    ("gram", "weights"),
    ("passes", "weights"),
    ("tensors", "weights", "base"),
    ("tensors", "weights", "statistics"),
)


@dataclass(frozen=True)
class Preset:
    """A named set of options. With `equal_weights`, a source without a weight gets 1/N instead of 1."""

    options: Mapping[str, Any]
    equal_weights: bool = False


@dataclass(frozen=True)
class Method:
    """A merge method.

    Attributes:
        name: the method's name in recipes.
        needs: what the method must see at once: single elements, rows, whole tensors, or the whole model (in a pass
            before the merge).
        returns: "weights" if the method combines the parameters θᵢ themselves, "delta" if it combines the task vectors
            τᵢ = θᵢ − θ₀; the engine scales a delta and adds it to θ₀.
        base: whether a base θ₀ is required, optional, or not accepted.
        function: the computation; see the module. `tensors` are θᵢ or τᵢ in float32, of one shape, in the order of
            the sources' names; `weights` are the sources' weights in the same order. It must not change its arguments.
        options: the pydantic model of the options.
        own_stages: builds the method's stages from its options; None if it has none.
        takes_gram: whether `function` computes coefficients from inner products.
        takes_base: whether `function` also takes θ₀, besides the task vectors.
        takes_passes: whether `function` goes over a tensor's runs itself, and returns a function of runs.
        presets: named sets of options.
        per_source: options of the stages that may be given per source, as a mapping from source name to value.
        along: what has inner products of its own under resolved options; None for always the tensor.
        combining: describes `function` in numbers for the compiled loops; None if they cannot compute it.
        statistics: the kind of statistics that `function` takes, the prefix of their names; None if it takes none.
    """

    name: str
    needs: Needs
    returns: Returns
    base: Base
    function: Callable[..., Any]
    options: type[BaseModel]
    own_stages: Callable[[Mapping[str, Any]], Sequence[Stage]] | None = None
    takes_gram: bool = False
    takes_base: bool = False
    takes_passes: bool = False
    presets: Mapping[str, Preset] = field(default_factory=dict)
    per_source: tuple[str, ...] = ()
    along: Callable[[Mapping[str, Any]], Along] | None = None
    combining: Combining | None = None
    statistics: str | None = None

    @property
    def formula(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    @property
    def whole_tensors(self) -> bool:
        """Whether `function` needs whole tensors in their shape."""
        return self.needs == "tensor" and not self.takes_gram and not self.takes_passes and self.own_stages is None

    def stages(self, options: Mapping[str, Any]) -> tuple[Stage, ...]:
        """All stages under resolved `options`: the recipe's, then the method's."""
        own = () if self.own_stages is None else self.own_stages(options)
        return (*(read_stage(self.name, spec) for spec in options.get("stages", ())), *own)

    def combine(
        self,
        tensors: Sequence[Floats],
        weights: Sequence[float],
        options: Mapping[str, Any],
        base: Floats | None = None,
        statistics: Sequence[Floats] | None = None,
    ) -> Floats:
        """Combines runs of elements, or whole tensors, after the stages. Not for methods that take something else."""
        own = {name: value for name, value in options.items() if name != "stages" and name not in self.per_source}
        more = [base] if self.takes_base else [] if self.statistics is None else [statistics]
        return self.function(tensors, weights, *more, **own)

    def gram_along(self, options: Mapping[str, Any]) -> Along:
        """What has inner products of its own, for a method that takes a gram matrix."""
        return "tensor" if self.along is None else self.along(options)

    def coefficients(self, gram: np.ndarray, weights: Sequence[float], options: Mapping[str, Any]) -> np.ndarray:
        """The coefficient of each source, float64 [n], from the inner products [n, n] of the sources' tensors.

        For a method with `along` also [rows, n] from [rows, n, n].
        """
        return np.asarray(self.function(gram, weights, **options), np.float64)

    def prepare(self, passes: Passes, weights: Sequence[float], options: Mapping[str, Any]) -> OfRun:
        """The function that computes a run of the result, for a method that takes passes."""
        return self.function(passes, weights, **options)

    def combination(
        self, weights: Sequence[float], options: Mapping[str, Any], coefficients: np.ndarray | None
    ) -> Combination | None:
        """The method in numbers for the compiled loops; None if they cannot compute it.

        Methods that take a gram matrix pass their `coefficients`, once known.
        """
        if self.takes_gram:
            if coefficients is None or coefficients.ndim > 1:
                return None
            return Combination(coefficients.tolist())
        return None if self.combining is None else self.combining(weights, options)

    def for_source(self, options: Mapping[str, Any], source: str) -> dict[str, Any]:
        """The resolved options of one source."""
        split = [name for name in self.per_source if isinstance(options.get(name), Mapping)]
        return {**options, **{name: options[name][source] for name in split}}

    def resolve(self, options: Mapping[str, Any], sources: Collection[str] = ()) -> dict[str, Any]:
        """All options, defaults filled in and `preset` expanded.

        Args:
            options: option → value. Options in `per_source` may instead map source name → value; sources that are not
                named get the default.
            sources: names of the sources.

        Raises:
            MergeError: an option is unknown, has an invalid value, or names an unknown source.
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
            for option, field_of in known.items():
                extra = field_of.json_schema_extra
                if isinstance(extra, dict) and extra.get("absent_means", _NOTHING) == resolved.get(option, _NOTHING):
                    del resolved[option]
            self.stages(resolved)
        except ValidationError as error:
            first = error.errors()[0]
            place = f"option {first['loc'][0]}: " if first["loc"] else ""
            raise MergeError(f"{self.name}: {place}{problem_of(first)}") from error
        return resolved

    def weights(self, names: Sequence[str], given: Mapping[str, float], options: Mapping[str, Any]) -> list[float]:
        """The weight of each source in the order of `names`; the default is 1, or 1/N if the preset sets it."""
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
    along: Callable[[Mapping[str, Any]], Along] | None = None,
    combining: Combining | None = None,
    statistics: str | None = None,
) -> Callable[[Callable[..., Any]], Method]:
    """Declares a function as a merge method of the same name. Its keyword-only arguments are the options."""

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
        takes_gram, takes_passes = positional[0] == "gram", positional[0] == "passes"
        takes_base = positional[-1] == "base"
        assert not takes_passes or needs == "tensor", f"{name}: passes are over tensors"
        assert not takes_base or (needs == "tensor" and returns == "delta" and stages is None), f"{name}: takes no base"
        assert (positional[-1] == "statistics") == (statistics is not None), (
            f"{name}: statistics are one of its arguments"
        )
        if returns == "delta" and not takes_gram and not takes_passes and (needs != "tensor" or stages is not None):
            fields["stages"] = (list[StageSpec], Field(default=[]))
        assert along is None or takes_gram, f"{name}: only inner products have a direction"
        assert set(per_source) <= set(fields), f"{name}: {per_source} must be among its options"
        options = create_model(f"{name}_options", __base__=Frozen, **fields)
        return Method(
            name=name,
            needs=needs,
            returns=returns,
            base=base,
            function=function,
            options=options,
            own_stages=stages,
            takes_gram=takes_gram,
            takes_base=takes_base,
            takes_passes=takes_passes,
            presets=presets or {},
            per_source=per_source,
            along=along,
            combining=combining,
            statistics=statistics,
        )

    return declare


def read_stage(method: str, spec: Mapping[str, Any]) -> Stage:
    """Reads a stage from a mapping such as `{"drop": {"drop": 0.1}}`: one name with its options.

    Raises:
        MergeError: the stage or one of its options is unknown, or a value is invalid.
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
        known = STAGES[name].model_fields
        place = ".".join(str(part) for part in first["loc"])
        hint = nearest(place, known) if first["type"] == "extra_forbidden" else ""
        told = f"{problem_of(first)}{hint} (options: {', '.join(known)})"
        raise MergeError(f"{method}: stage {name}: {place}: {told}") from error


def weighted_sum(tensors: Sequence[Floats], weights: Sequence[float] | Sequence[np.ndarray]) -> Floats:
    """Σ wᵢ xᵢ in the given order, as a new array. A weight may be an array that fits the tensors' shape.

    Each product is rounded before it is added, which every machine can do: a fused multiply-add would give other bits
    on the processors that have it (measured: in 20 % of elements).
    """
    total = np.multiply(tensors[0], np.asarray(weights[0], np.float32), out=like(tensors[0]))
    product = like(total)
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += np.multiply(tensor, np.asarray(weight, np.float32), out=product)
    return total


def summing(name: str) -> Combining:
    """The weighted sum, divided by the sum of the weights if the option `normalise` is on."""

    def combination(weights: Sequence[float], options: Mapping[str, Any]) -> Combination:
        return Combination(weights, sum_of_weights(name, weights) if options["normalise"] else None)

    return combination


def sum_of_weights(name: str, weights: Sequence[float], remedy: str = "set normalise = false") -> float:
    """Σ wᵢ, correctly rounded, for methods that divide by it.

    Raises:
        MergeError: the sum is zero, or so close to zero that only rounding error is left.
    """
    total = math.fsum(weights)
    if abs(total) <= 1e-12 * math.fsum(map(abs, weights)):
        raise MergeError(f"{name}: the weights add up to zero, so the sum cannot be divided by them; {remedy}")
    return total


def refuse_weights(name: str, weights: Sequence[float]) -> None:
    """For methods that weight the sources themselves.

    Raises:
        MergeError: weights differ.
    """
    if len(set(weights)) > 1:
        raise MergeError(f"{name}: takes no weights; leave them out")
