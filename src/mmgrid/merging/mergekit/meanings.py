"""How each mergekit method translates to ours: its parameters with their defaults, and the options they become.

`density`, `gamma` and `epsilon` are per source, and thresholds are always per tensor. A setting without a counterpart
is refused; a setting with a counterpart that gives other numbers adds a note. See docs/merging/mergekit.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.stages.base import share_of

_TINY = 1e-6  # mergekit's least divisor in several methods
SAMPLED = (
    "arcee_fusion: quartiles are of all elements; mergekit estimates them from a random sample in tensors of more than "
    "1,000,000 elements, and computes divergences in float32, so elements near the threshold may differ"
)
Scope = Literal["shared", "input", "source"]  # one for all, one for each model, one for each model but the base
DRAWN = (
    "{method}: elements are drawn by seed, source, tensor and index; mergekit draws in the order in which it processes "
    "tensors, so other elements are kept"
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of mergekit; `needed` parameters have no default and must be given."""

    name: str
    kind: type
    scope: Scope
    default: Any = None
    needed: bool = False


@dataclass(frozen=True)
class Values:
    """The parameters for one tensor: those shared by all models, and those of each model, by source name.

    `size` is the number of elements of the tensor; None if the parameters are the same for all tensors.
    """

    shared: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    base: str | None
    note: Callable[[str], None]
    size: int | None = None

    def each(self, parameter: str) -> dict[str, Any]:
        return {source: values[parameter] for source, values in self.own.items()}


@dataclass(frozen=True)
class Meaning:
    """How a tensor is merged, in terms of our methods."""

    method: str
    options: Mapping[str, Any]
    weights: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0


@dataclass(frozen=True)
class MergekitMethod:
    """A method of mergekit that has a counterpart.

    Attributes:
        parameters: mergekit's parameters.
        base: "delta": the method needs a base, and merges task vectors; "optional": it merges task vectors if a base
            is given; "input": the base is one of the merged models.
        inputs: minimum and maximum number of models, including the base.
        others: the same without the base.
        meaning: translates the parameters of a tensor.
    """

    parameters: tuple[Parameter, ...]
    base: Literal["delta", "optional", "input"]
    inputs: tuple[int, int | None]
    meaning: Callable[[Values], Meaning]
    others: tuple[int, int | None] = (0, None)


def _same(values: Mapping[str, Any]) -> Any:
    """A single value if all sources agree, else the mapping."""
    distinct = set(values.values())
    return distinct.pop() if len(distinct) == 1 else dict(values)


def _complement(share: float) -> float:
    """1 − share, rounded to remove floating-point noise: 1 − 0.33 is 0.67."""
    return round(1 - share, 12)


def _linear(values: Values) -> Meaning:
    return Meaning("linear", {"normalise": values.shared["normalize"]}, values.each("weight"))


def _passthrough(values: Values) -> Meaning:
    scales = {source: 1.0 if scale is None else scale for source, scale in values.each("scale").items()}
    return Meaning("linear", {"normalise": False}, scales)


def _slerp(values: Values) -> Meaning:
    assert values.base is not None
    t = values.shared["t"]
    return Meaning("slerp", {}, {source: _complement(t) if source == values.base else t for source in values.own})


def _multislerp(values: Values) -> Meaning:
    options = {"normalise": values.shared["normalize_weights"], "eps": values.shared["eps"]}
    return Meaning("multislerp", options, values.each("weight"))


def _nuslerp(values: Values) -> Meaning:
    weights = values.each("weight")
    if abs(sum(weights.values())) < _TINY:  # mergekit then takes t = 0.5
        weights = dict.fromkeys(weights, 1.0)
    along = "columns" if values.shared["nuslerp_row_wise"] else "rows"
    return Meaning("nuslerp", {"along": "tensor" if values.shared["nuslerp_flatten"] else along}, weights)


def _karcher(values: Values) -> Meaning:
    return Meaning("karcher", {"max_iter": max(values.shared["max_iter"], 0), "tol": max(values.shared["tol"], 0.0)})


def _model_stock(values: Values) -> Meaning:
    method = "model_stock_filters" if values.shared["filter_wise"] else "model_stock"
    return Meaning(method, {"eps": _TINY})


def _sce(values: Values) -> Meaning:
    return Meaning("sce", {"select": min(max(values.shared["select_topk"], 0.0), 1.0), "floor": _TINY})


def _not_negative(values: Values, *names: str) -> None:
    for name in names:
        if values.shared[name] < 0:
            raise MergeError(f"{name}: is {values.shared[name]:g}; it must be 0 or more")


def _ram(values: Values) -> Meaning:
    _not_negative(values, "epsilon")
    return Meaning("ram", {"epsilon": values.shared["epsilon"]})


def _ram_plus(values: Values) -> Meaning:
    _not_negative(values, "epsilon", "alpha")
    shared = values.shared
    return Meaning("ram_plus", {"reward": shared["r"], "cap": shared["alpha"], "epsilon": shared["epsilon"]})


def _nearswap(values: Values) -> Meaning:
    return Meaning("nearswap", {"t": max(values.shared["t"], 0.0)})


def _arcee_fusion(values: Values) -> Meaning:
    values.note(SAMPLED)
    return Meaning("arcee_fusion", {})


def _delta(values: Values, method: str, options: Mapping[str, Any], *, elects: bool) -> Meaning:
    """A method of task vectors: weights, `lambda`, and the division by the weights with `normalize`."""
    weights, normalise = values.each("weight"), values.shared["normalize"]
    if not elects and abs(sum(weights.values())) < 1e-8:  # mergekit then divides by 1
        normalise = False
    return Meaning(method, {**options, "normalise": normalise}, weights, values.shared["lambda"])


def _task_arithmetic(values: Values) -> Meaning:
    return _delta(values, "task_arithmetic", {}, elects=False)


def _clipped(values: Values) -> dict[str, float]:
    return {source: min(max(density, 0.0), 1.0) for source, density in values.each("density").items()}


def _rescale(values: Values) -> str | bool:
    """mergekit scales what is kept of a tensor to its L1 norm."""
    return "norm" if values.shared["rescale"] else False


def _share(count: int, share: float, size: int | None) -> float:
    """`share` if it stands for `count` of `size` elements, else one close to it that does.

    mergekit multiplies in binary floating point, where 0.29 · 100 is less than 29.
    """
    if size is None or share_of(share, size) == count:
        return share
    return _least_share(count, size)


def _least_share(count: int, size: int) -> float:
    """A share of `size` elements that stands for `count`, hardly larger than their quotient."""
    return (count + min(0.25, 4e-10 * size)) / size


def _ties(values: Values) -> Meaning:
    size = values.size
    density = {
        source: share if size is None or not 0 < share < 1 else _share(int(share * size), share, size)
        for source, share in _clipped(values).items()
    }
    options = {
        "density": _same(density),
        "scope": "tensor",
        "elect": "weighted",
        "rescale": _rescale(values),
        "least": 1,
    }
    return _delta(values, "ties", options, elects=True)


def _inner(elects: bool) -> dict[str, Any]:
    return {"inner": "ties", "elect": "weighted"} if elects else {"inner": "linear"}


def _drawn(values: Values, method: str) -> dict[str, float]:
    """The densities of a random method; adds notes on the differences from mergekit."""
    density = _clipped(values)
    for source, share in density.items():
        if share <= 0:
            raise MergeError(f"density: {source}: is {share:g}, which keeps nothing; set the weight to 0 instead")
    if min(density.values()) < 1:
        values.note(DRAWN.format(method=method))
    return density


def _dare(elects: bool) -> Callable[[Values], Meaning]:
    name = "dare_ties" if elects else "dare_linear"

    def meaning(values: Values) -> Meaning:
        density = _drawn(values, name)
        drop = {source: _complement(share) for source, share in density.items()}
        options = {"drop": _same(drop), "rescale": _rescale(values), **_inner(elects)}
        return _delta(values, "dare", options, elects=elects)

    return meaning


def _breadcrumbs(elects: bool) -> Callable[[Values], Meaning]:
    def meaning(values: Values) -> Meaning:
        density, gamma, size = _clipped(values), values.each("gamma"), values.size
        for source, share in density.items():
            # mergekit gives density precedence, and reduces gamma so that both fit
            gamma[source] = min(max(gamma[source], 0.0), _complement(share))
            if size is not None and share < 1:
                kept = int(share * size)
                largest = max(min(int(values.own[source]["gamma"] * size), size - kept), 0)
                density[source] = _share(kept, share, size)
                gamma[source] = _share(largest, gamma[source], size)
                if density[source] + gamma[source] > 1:
                    density[source], gamma[source] = _least_share(kept, size), _least_share(largest, size)
        options = {
            "density": _same(density),
            "gamma": _same(gamma),
            "scope": "tensor",
            "rescale": _rescale(values),
            **_inner(elects),
        }
        return _delta(values, "breadcrumbs", options, elects=elects)

    return meaning


def _della(elects: bool) -> Callable[[Values], Meaning]:
    name = "della" if elects else "della_linear"

    def meaning(values: Values) -> Meaning:
        density = _drawn(values, name)
        epsilon = {  # mergekit's epsilon is half the difference between the largest and the smallest probability
            source: 0.0 if density[source] == 1 else round(2 * half, 12)
            for source, half in values.each("epsilon").items()
        }
        for source, difference in epsilon.items():
            share = density[source]
            if share < 1 and not (share - difference / 2 > 0 and share + difference / 2 < 1):
                raise MergeError(f"epsilon: {source}: {share:g} ± {difference / 2:g} must lie between 0 and 1")
        options = {
            "density": _same(density),
            "epsilon": _same(epsilon),
            "rescale": _rescale(values),
            **_inner(elects),
        }
        return _delta(values, "della", options, elects=elects)

    return meaning


_WEIGHT = Parameter("weight", float, "source", needed=True)
_GAMMA = Parameter("gamma", float, "source", 0.01)
_EPSILON = Parameter("epsilon", float, "source", 0.15)
_RAM_EPSILON = Parameter("epsilon", float, "shared", 1e-5)


def _of_task_vectors(
    meaning: Callable[[Values], Meaning], *more: Parameter, normalize: bool = False, rescale: bool = False
) -> MergekitMethod:
    parameters = (
        _WEIGHT,
        Parameter("lambda", float, "shared", 1.0),
        Parameter("normalize", bool, "shared", normalize),
        Parameter("rescale", bool, "shared", rescale),
        Parameter("density", float, "source", 1.0),
        Parameter("int8_mask", bool, "shared", False),
        *more,
    )
    return MergekitMethod(parameters, "delta", (1, None), meaning)


METHODS: dict[str, MergekitMethod] = {
    "linear": MergekitMethod(
        (Parameter("weight", float, "input", needed=True), Parameter("normalize", bool, "shared", True)),
        "input",
        (1, None),
        _linear,
    ),
    "slerp": MergekitMethod((Parameter("t", float, "shared", needed=True),), "input", (2, 2), _slerp),
    "multislerp": MergekitMethod(
        (_WEIGHT, Parameter("normalize_weights", bool, "shared", True), Parameter("eps", float, "shared", 1e-8)),
        "optional",
        (1, None),
        _multislerp,
        others=(1, None),
    ),
    "nuslerp": MergekitMethod(
        (
            _WEIGHT,
            Parameter("nuslerp_flatten", bool, "shared", True),
            Parameter("nuslerp_row_wise", bool, "shared", False),
        ),
        "optional",
        (1, None),
        _nuslerp,
        others=(2, 2),
    ),
    "karcher": MergekitMethod(
        (Parameter("max_iter", int, "shared", 10), Parameter("tol", float, "shared", 1e-5)),
        "input",
        (1, None),
        _karcher,
    ),
    "model_stock": MergekitMethod((Parameter("filter_wise", bool, "shared", False),), "delta", (3, None), _model_stock),
    "passthrough": MergekitMethod((Parameter("scale", float, "input"),), "input", (1, 1), _passthrough),
    "sce": MergekitMethod(
        (Parameter("select_topk", float, "shared", 1.0), Parameter("int8_mask", bool, "shared", False)),
        "delta",
        (1, None),
        _sce,
    ),
    "ram": MergekitMethod((_RAM_EPSILON,), "delta", (1, None), _ram),
    "ramplus_tl": MergekitMethod(
        (Parameter("r", float, "shared", 0.1), Parameter("alpha", float, "shared", 0.2), _RAM_EPSILON),
        "delta",
        (1, None),
        _ram_plus,
    ),
    "nearswap": MergekitMethod((Parameter("t", float, "shared", needed=True),), "delta", (2, 2), _nearswap),
    "arcee_fusion": MergekitMethod((), "delta", (2, 2), _arcee_fusion),
    "task_arithmetic": _of_task_vectors(_task_arithmetic),
    "ties": _of_task_vectors(_ties, normalize=True),
    "dare_linear": _of_task_vectors(_dare(elects=False), rescale=True),
    "dare_ties": _of_task_vectors(_dare(elects=True), rescale=True),
    "breadcrumbs": _of_task_vectors(_breadcrumbs(elects=False), _GAMMA),
    "breadcrumbs_ties": _of_task_vectors(_breadcrumbs(elects=True), _GAMMA),
    "della": _of_task_vectors(_della(elects=True), _EPSILON, normalize=True, rescale=True),
    "della_linear": _of_task_vectors(_della(elects=False), _EPSILON, rescale=True),
}
# Methods that keep a number of a tensor's elements, which depends on its size.
COUNTED = ("ties", "breadcrumbs", "breadcrumbs_ties")
