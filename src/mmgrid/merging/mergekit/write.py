"""A merge of ours as a mergekit file, where mergekit has the method: what its users can read, run and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from mmgrid.merging.arrays.names import depths
from mmgrid.merging.mergekit.places import layer_in
from mmgrid.merging.mergekit.settings import value_of
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.plan.plan import Plan
from mmgrid.merging.plan.program import Job, Program
from mmgrid.merging.plan.recipe import MergeRecipe

CONFIG_FILE = "mergekit_config.yml"
_HEAD = """\
# The same merge for mergekit 0.1.5. Paths are as seen from this file's folder: run mergekit-yaml on it there.
"""
_DRAWN = "# Elements are drawn at random: mergekit draws other ones, and scales what is kept to the tensor's L1 norm.\n"


class NoCounterpartError(Exception):
    """Why mergekit has no word for a merge."""


@dataclass
class _Said:
    """How a tensor is merged, in mergekit's words."""

    method: str
    shared: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=dict)  # source → parameters
    first: str | None = None  # the source that mergekit calls the base
    drawn: bool = False


def mergekit_config(recipe: MergeRecipe, job: Job, plan: Plan) -> str:
    """The text of the file.

    Args:
        recipe: with names, and paths as the file is to have them.
        job: the same, with its sources open.
        plan: what becomes of each tensor.

    Raises:
        NoCounterpartError: mergekit cannot do this merge; says why.
    """
    if plan.blocks:
        raise NoCounterpartError("token rows are merged in blocks")
    depth = depths(plan.merged)
    said = {}
    for tensor in plan.merged:
        program = job.program(tensor)
        said[tensor] = _said(program, list(job.sources), program.scale_at(depth[tensor]))
    bases = {id(job.program(tensor).base) for tensor in plan.merged}
    if len({each.method for each in said.values()}) > 1 or len(bases) > 1:
        raise NoCounterpartError("rules have other methods or bases")
    one = next(iter(said.values()))
    models = {
        str(source.name): _model(source.path, source.onto, job.sources[str(source.name)]) for source in recipe.sources
    }
    value: dict[str, Any] = {"merge_method": one.method}
    if one.first is not None:
        value["base_model"] = models[one.first]
    elif job.programs[-1].base is not None and recipe.base is not None:
        value["base_model"] = _model(recipe.base, None, job.programs[-1].base)
    value["models"] = []
    for source, model in models.items():
        names = one.own.get(source, {})
        own = {name: _setting({tensor: each.own[source][name] for tensor, each in said.items()}) for name in names}
        value["models"].append({"model": model, **({"parameters": own} if own else {})})
    shared = {name: _setting({tensor: each.shared[name] for tensor, each in said.items()}) for name in one.shared}
    if shared.get("lambda") == 1:
        del shared["lambda"]
    if shared:
        value["parameters"] = shared
    value |= _types(plan)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return _HEAD + (_DRAWN if one.drawn else "") + text


def _types(plan: Plan) -> dict[str, str]:
    """mergekit computes in `dtype`; where the result has several types it must be left to itself."""
    types = {info.dtype for info in plan.merged.values()}
    if len(types) > 1:
        return {}
    (dtype,) = types
    if dtype not in ("float32", "bfloat16", "float16"):
        raise NoCounterpartError(f"the result is {dtype}")
    return {"dtype": "float32"} | ({} if dtype == "float32" else {"out_dtype": dtype})


def _model(path: Any, onto: Any, source: Any) -> str | dict[str, Any]:
    if not (source.companions / "config.json").is_file():
        raise NoCounterpartError(f"{path} has no config.json")
    adapter = None
    if isinstance(source, LoraFolder):
        if onto is None:
            raise NoCounterpartError(f"{path} is an adapter whose model the recipe does not name")
        path, adapter = onto, path
    text = str(path) + ("" if adapter is None else f"+{adapter}")
    if "@" in text or text.count("+") != (adapter is not None):
        named: dict[str, Any] = {"model": {"path": str(path)}}
        return named if adapter is None else named | {"lora": {"path": str(adapter)}}
    return text


def _said(program: Program, names: Sequence[str], scale: float) -> _Said:
    if "stages" in program.options:
        raise NoCounterpartError("stages are named")
    say = _METHODS.get(program.method.name)
    if say is None:
        raise NoCounterpartError(f"mergekit has no {program.method.name}")
    if scale != 1 and (program.method.returns == "weights" or program.method.name == "model_stock"):
        raise NoCounterpartError("a scale has no counterpart")
    said = say(program, {name: program.method.for_source(program.options, name) for name in names}, scale)
    if not said.own:
        said.own = {name: {} for name in names}
    if said.method not in ("slerp", "model_stock"):
        for name, weight in zip(names, program.weights, strict=True):
            said.own[name] = {"weight": float(weight)} | said.own[name]
    return said


def _shared(program: Program, scale: float) -> dict[str, Any]:
    return {"normalize": program.options["normalise"], "lambda": scale}


def _elects(program: Program) -> bool:
    """Whether signs are elected, by weighted votes, which is the only way that mergekit has."""
    elects = program.options.get("inner", "ties") == "ties"
    if elects and program.options["elect"] != "weighted":
        raise NoCounterpartError("votes are not weighted")
    return elects


def _by_tensor(program: Program, options: Mapping[str, Mapping[str, Any]]) -> None:
    if program.options["scope"] != "tensor" and any(own["density"] < 1 for own in options.values()):
        raise NoCounterpartError("thresholds are not per tensor")


def _linear(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    return _Said("linear", {"normalize": program.options["normalise"]})


def _of_chain(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    """Methods over time, whose coefficients depend on nothing but the options."""
    n = len(options)
    factors = program.method.coefficients(np.zeros((n, n)), program.weights, program.options)
    own = {name: {"weight": float(factor)} for name, factor in zip(options, factors, strict=True)}
    return _Said("linear", {"normalize": False}, own)


def _slerp(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    return _Said("slerp", {"t": program.weights[1] / sum(program.weights)}, first=next(iter(options)))


def _multislerp(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    return _Said("multislerp", {"normalize_weights": program.options["normalise"], "eps": program.options["eps"]})


def _model_stock(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    return _Said("model_stock")


def _task_arithmetic(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    return _Said("task_arithmetic", _shared(program, scale))


def _ties(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    _by_tensor(program, options)
    _elects(program)
    if program.options["drop"]:
        raise NoCounterpartError("elements are dropped before the trim")
    return _Said("ties", _shared(program, scale), {name: {"density": own["density"]} for name, own in options.items()})


def _dare(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    if program.options.get("mask", "random") != "random":
        raise NoCounterpartError("the mask is by magnitude")
    own = {name: {"density": round(1 - each["drop"], 12)} for name, each in options.items()}
    shared = _shared(program, scale) | {"rescale": program.options["rescale"]}
    return _Said("dare_ties" if _elects(program) else "dare_linear", shared, own, drawn=True)


def _breadcrumbs(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    _by_tensor(program, options)
    if any(each["density"] == 1 and each["gamma"] for each in options.values()):
        raise NoCounterpartError("with density 1 mergekit keeps the largest elements, too")
    own = {name: {"density": each["density"], "gamma": each["gamma"]} for name, each in options.items()}
    return _Said("breadcrumbs_ties" if _elects(program) else "breadcrumbs", _shared(program, scale), own)


def _della(program: Program, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Said:
    own = {
        name: {"density": each["density"], "epsilon": round(each["epsilon"] / 2, 12)} for name, each in options.items()
    }
    shared = _shared(program, scale) | {"rescale": program.options["rescale"]}
    return _Said("della" if _elects(program) else "della_linear", shared, own, drawn=True)


_METHODS: dict[str, Callable[[Program, Mapping[str, Mapping[str, Any]], float], _Said]] = {
    "linear": _linear,
    "velocity": _of_chain,
    "acceleration": _of_chain,
    "decay": _of_chain,
    "slerp": _slerp,
    "multislerp": _multislerp,
    "model_stock": _model_stock,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
    "dare": _dare,
    "mask": _dare,
    "breadcrumbs": _breadcrumbs,
    "della": _della,
}


def _setting(values: Mapping[str, Any]) -> Any:
    """tensor → value as mergekit writes it: one value, or a list of values with texts to look for in names."""
    counts = Counter(values.values())
    usual, _ = counts.most_common(1)[0]
    if len(counts) == 1:
        return usual
    conditions: list[dict[str, Any]] = []
    texts, done = _texts(values), set[str]()
    for value in sorted((value for value in counts if value != usual), key=lambda value: (counts[value], str(value))):
        left = {tensor for tensor, own in values.items() if own == value}
        allowed = left | done  # the first that fits counts
        done |= left
        for text in texts:
            fitting = {tensor for tensor in values if text in tensor}
            if fitting & left and fitting <= allowed:
                conditions.append({"filter": text, "value": value})
                left -= fitting
        conditions += [{"filter": tensor, "value": value} for tensor in sorted(left)]
    conditions.append({"value": usual})
    for tensor, value in values.items():  # a filter may also stand in another tensor's name
        if value_of("it", type(value), [{"it": conditions}], tensor, 0.0, CONFIG_FILE) != value:
            raise NoCounterpartError(f"no filter fits {tensor} alone")
    return conditions


def _texts(tensors: Collection[str]) -> list[str]:
    """Texts that a filter may look for: kinds of modules (`.mlp.`), and layers (`model.layers.3.`)."""
    layers = {f"{at[0]}{at[1]}." for tensor in tensors if (at := layer_in(tensor))}
    kinds = {f".{part}." for tensor in tensors for part in tensor.split(".")[1:-1] if not part.isdecimal()}
    wide = sorted(kinds, key=lambda kind: (-sum(kind in tensor for tensor in tensors), kind))
    return [*wide, *sorted(layers)]
