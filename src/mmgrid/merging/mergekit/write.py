"""Writes a merge as a mergekit file, if mergekit has the method, so that mergekit can read, run and compare it."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from mmgrid.merging.arrays.names import depths
from mmgrid.merging.mergekit.places import layer_in
from mmgrid.merging.mergekit.settings import value_of
from mmgrid.merging.mergekit.write_models import NoCounterpartError, layers_of, named_model, slices_of
from mmgrid.merging.mergekit.write_tokenizer import tokenizer_of
from mmgrid.merging.models.chat_formats import chat_template
from mmgrid.merging.plan.plan import Plan
from mmgrid.merging.plan.program import AppliedMethod, Program
from mmgrid.merging.plan.recipe import MergeRecipe
from mmgrid.merging.plan.vocabulary import OneVocabulary

CONFIG_FILE = "mergekit_config.yml"
_HEAD = """\
# The same merge for mergekit 0.1.5. Paths are as seen from this file's folder: run mergekit-yaml on it there.
"""
_DRAWN = "# Elements are drawn at random: mergekit draws other ones, and scales what is kept to the tensor's L1 norm.\n"


_WITHOUT_WEIGHTS = ("slerp", "model_stock", "karcher", "sce", "ram", "ramplus_tl", "nearswap", "arcee_fusion")
_FLOOR = 1e-6  # mergekit's least divisor


@dataclass
class _Translation:
    """How a tensor is merged, in terms of mergekit's methods."""

    method: str
    shared: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=dict)  # source → parameters
    first: str | None = None  # the source that is mergekit's base_model
    drawn: bool = False


def mergekit_config(recipe: MergeRecipe, program: Program, plan: Plan, vocabulary: OneVocabulary | None = None) -> str:
    """The text of the file.

    Args:
        recipe: the recipe, with named sources, and paths as they should appear in the file.
        program: the recipe's program, with its sources open.
        plan: what is done with each tensor.
        vocabulary: the tokens of the result, if the recipe chose them.

    Raises:
        NoCounterpartError: mergekit cannot express this merge.
    """
    if plan.blocks:
        raise NoCounterpartError("token rows are merged in blocks")
    depth = depths(plan.merged)
    translations = {}
    for tensor in plan.merged:
        applied = program.applied(tensor)
        translations[tensor] = _translate(applied, list(program.sources), applied.scale_at(depth[tensor]))
    bases = {id(program.applied(tensor).base) for tensor in plan.merged}
    if len({each.method for each in translations.values()}) > 1 or len(bases) > 1:
        raise NoCounterpartError("rules use different methods or bases")
    one = next(iter(translations.values()))
    value = {"merge_method": one.method, **_inputs(recipe, program, translations)}
    shared = {
        name: _setting({tensor: each.shared[name] for tensor, each in translations.items()}) for name in one.shared
    }
    if shared.get("lambda") == 1:
        del shared["lambda"]
    if shared:
        value["parameters"] = shared
    if vocabulary is not None:
        value |= tokenizer_of(recipe, program, vocabulary, value)
    if recipe.chat_template is not None:
        value["chat_template"] = chat_template(recipe.chat_template)
    value |= _types(plan)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return _HEAD + (_DRAWN if one.drawn else "") + text


def _inputs(recipe: MergeRecipe, program: Program, translations: Mapping[str, _Translation]) -> dict[str, Any]:
    """`base_model`, and `models` or `slices`."""
    one = next(iter(translations.values()))
    base = program.methods[-1].base if recipe.base is not None and one.first is None else None
    stacked = recipe.base_stack or any(source.stack for source in recipe.sources)
    own: dict[str, dict[str, Any]] = {}
    for source in recipe.sources:
        name = str(source.name)
        own[name] = {
            key: _setting({tensor: each.own[name][key] for tensor, each in translations.items()})
            for key in one.own.get(name, {})
        }
    if not stacked:
        models = {
            str(source.name): named_model(source.path, source.onto, program.sources[str(source.name)])
            for source in recipe.sources
        }
        value: dict[str, Any] = {}
        if one.first is not None:
            value["base_model"] = models[one.first]
        elif base is not None and recipe.base is not None:
            value["base_model"] = named_model(recipe.base, recipe.base_onto, base)
        value["models"] = [
            {"model": model, **({"parameters": own[name]} if own[name] else {})} for name, model in models.items()
        ]
        return value
    if any(isinstance(setting, list) for settings in own.values() for setting in settings.values()):
        raise NoCounterpartError("layers are stacked, and rules change what single tensors are merged with")
    layers = {
        str(source.name): layers_of(source.path, source.onto, source.stack, program.sources[str(source.name)])
        for source in recipe.sources
    }
    if base is not None and recipe.base is not None:
        layers = {"(base)": layers_of(recipe.base, recipe.base_onto, recipe.base_stack, base), **layers}
    return {"slices": slices_of(layers, own, "(base)" if base is not None else one.first)}


def _types(plan: Plan) -> dict[str, str]:
    """The file's types. mergekit computes in `dtype`; for a result of several types, no type may be given."""
    types = {info.dtype for info in plan.merged.values()}
    if len(types) > 1:
        return {}
    (dtype,) = types
    if dtype not in ("float32", "bfloat16", "float16"):
        raise NoCounterpartError(f"the result is {dtype}")
    return {"dtype": "float32"} | ({} if dtype == "float32" else {"out_dtype": dtype})


def _translate(applied: AppliedMethod, names: Sequence[str], scale: float) -> _Translation:
    if "stages" in applied.options:
        raise NoCounterpartError("the recipe names stages")
    translate = _METHODS.get(applied.method.name)
    if translate is None:
        raise NoCounterpartError(f"mergekit has no {applied.method.name}")
    if scale != 1 and applied.method.returns == "weights":
        raise NoCounterpartError("a scale has no counterpart")
    options = {name: applied.method.for_source(applied.options, name) for name in names}
    translation = translate(applied, options, scale)
    if not translation.own:
        translation.own = {name: {} for name in names}
    if translation.method not in _WITHOUT_WEIGHTS:
        for name, weight in zip(names, applied.weights, strict=True):
            translation.own[name] = {"weight": float(weight)} | translation.own[name]
    return translation


def _shared(applied: AppliedMethod, scale: float) -> dict[str, Any]:
    return {"normalize": applied.options["normalise"], "lambda": scale}


def _elects(applied: AppliedMethod) -> bool:
    """Whether signs are elected; mergekit supports only weighted votes."""
    elects = applied.options.get("inner", "ties") == "ties"
    if elects and applied.options["elect"] != "weighted":
        raise NoCounterpartError("votes are not weighted")
    return elects


def _by_tensor(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]]) -> None:
    if applied.options["scope"] != "tensor" and any(own["density"] < 1 for own in options.values()):
        raise NoCounterpartError("thresholds are not per tensor")


def _linear(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    return _Translation("linear", {"normalize": applied.options["normalise"]})


def _of_chain(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    """Methods over time: their coefficients depend only on the options."""
    n = len(options)
    factors = applied.method.coefficients(np.zeros((n, n)), applied.weights, applied.options).tolist()
    own = {name: {"weight": float(factor)} for name, factor in zip(options, factors, strict=True)}
    return _Translation("linear", {"normalize": False}, own)


def _slerp(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    return _Translation("slerp", {"t": applied.weights[1] / sum(applied.weights)}, first=next(iter(options)))


def _multislerp(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    return _Translation(
        "multislerp", {"normalize_weights": applied.options["normalise"], "eps": applied.options["eps"]}
    )


def _unscaled(scale: float) -> None:
    if scale != 1:
        raise NoCounterpartError("a scale has no counterpart")


def _model_stock(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _unscaled(scale)
    filters = applied.method.name == "model_stock_filters"
    return _Translation("model_stock", {"filter_wise": True} if filters else {})


def _nuslerp(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _unscaled(scale)
    along = applied.options["along"]
    shared = {} if along == "tensor" else {"nuslerp_flatten": False, "nuslerp_row_wise": along == "columns"}
    return _Translation("nuslerp", shared)


def _karcher(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    if len(set(applied.weights)) > 1:
        raise NoCounterpartError("weights differ")
    return _Translation("karcher", {"max_iter": applied.options["max_iter"], "tol": applied.options["tol"]})


def _sce(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _unscaled(scale)
    if applied.options["floor"] != _FLOOR:
        raise NoCounterpartError(f"the floor is not {_FLOOR:g}")
    return _Translation("sce", {"select_topk": applied.options["select"]})


def _ram(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _unscaled(scale)
    own = applied.options
    if applied.method.name == "ram":
        return _Translation("ram", {"epsilon": own["epsilon"]})
    return _Translation("ramplus_tl", {"r": own["reward"], "alpha": own["cap"], "epsilon": own["epsilon"]})


def _of_one_source(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _unscaled(scale)
    if list(applied.weights) != [1.0]:
        raise NoCounterpartError("there are several sources, or a weight")
    return _Translation(applied.method.name, {"t": applied.options["t"]} if "t" in applied.options else {})


def _task_arithmetic(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    return _Translation("task_arithmetic", _shared(applied, scale))


def _ties(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _by_tensor(applied, options)
    _elects(applied)
    if applied.options["drop"]:
        raise NoCounterpartError("elements are dropped before the trim")
    own = {name: {"density": each["density"]} for name, each in options.items()}
    return _Translation("ties", _shared(applied, scale) | _to_norm(applied, own), own)


def _to_norm(applied: AppliedMethod, own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """mergekit's `rescale`, which always scales to the norm."""
    if applied.options.get("rescale") is True and any(each["density"] < 1 for each in own.values()):
        raise NoCounterpartError("kept elements are divided by the density")
    return {"rescale": True} if applied.options.get("rescale") == "norm" else {}


def _dare(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    if applied.options.get("mask", "random") != "random":
        raise NoCounterpartError("the mask is by magnitude")
    own = {name: {"density": round(1 - each["drop"], 12)} for name, each in options.items()}
    shared = _shared(applied, scale) | {"rescale": bool(applied.options["rescale"])}
    return _Translation("dare_ties" if _elects(applied) else "dare_linear", shared, own, drawn=True)


def _breadcrumbs(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    _by_tensor(applied, options)
    if any(each["density"] == 1 and each["gamma"] for each in options.values()):
        raise NoCounterpartError("with density 1 mergekit keeps the largest elements, too")
    own = {name: {"density": each["density"], "gamma": each["gamma"]} for name, each in options.items()}
    shared = _shared(applied, scale) | _to_norm(applied, own)
    return _Translation("breadcrumbs_ties" if _elects(applied) else "breadcrumbs", shared, own)


def _della(applied: AppliedMethod, options: Mapping[str, Mapping[str, Any]], scale: float) -> _Translation:
    own = {
        name: {"density": each["density"], "epsilon": round(each["epsilon"] / 2, 12)} for name, each in options.items()
    }
    shared = _shared(applied, scale) | {"rescale": bool(applied.options["rescale"])}
    return _Translation("della" if _elects(applied) else "della_linear", shared, own, drawn=True)


_METHODS: dict[str, Callable[[AppliedMethod, Mapping[str, Mapping[str, Any]], float], _Translation]] = {
    "linear": _linear,
    "velocity": _of_chain,
    "acceleration": _of_chain,
    "decay": _of_chain,
    "slerp": _slerp,
    "multislerp": _multislerp,
    "nuslerp": _nuslerp,
    "karcher": _karcher,
    "model_stock": _model_stock,
    "model_stock_filters": _model_stock,
    "sce": _sce,
    "ram": _ram,
    "ram_plus": _ram,
    "nearswap": _of_one_source,
    "arcee_fusion": _of_one_source,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
    "dare": _dare,
    "mask": _dare,
    "breadcrumbs": _breadcrumbs,
    "della": _della,
}


def _setting(values: Mapping[str, Any]) -> Any:
    """Writes tensor → value in mergekit's form: one value, or a list of values with filters."""
    counts = Counter(values.values())
    usual, _ = counts.most_common(1)[0]
    if len(counts) == 1:
        return usual
    conditions: list[dict[str, Any]] = []
    texts, done = _texts(values), set[str]()
    for value in sorted((value for value in counts if value != usual), key=lambda value: (counts[value], str(value))):
        left = {tensor for tensor, own in values.items() if own == value}
        allowed = left | done  # the first matching filter wins
        done |= left
        for text in texts:
            fitting = {tensor for tensor in values if text in tensor}
            if fitting & left and fitting <= allowed:
                conditions.append({"filter": text, "value": value})
                left -= fitting
        conditions += [{"filter": tensor, "value": value} for tensor in sorted(left)]
    conditions.append({"value": usual})
    for tensor, value in values.items():  # a tensor's name may also occur in the name of another tensor
        if value_of("it", type(value), [{"it": conditions}], tensor, 0.0, CONFIG_FILE) != value:
            raise NoCounterpartError(f"no filter fits {tensor} alone")
    return conditions


def _texts(tensors: Collection[str]) -> list[str]:
    """Texts to filter by: kinds of modules (`.mlp.`) and layers (`model.layers.3.`)."""
    layers = {f"{at[0]}{at[1]}." for tensor in tensors if (at := layer_in(tensor))}
    kinds = {f".{part}." for tensor in tensors for part in tensor.split(".")[1:-1] if not part.isdecimal()}
    wide = sorted(kinds, key=lambda kind: (-sum(kind in tensor for tensor in tensors), kind))
    return [*wide, *sorted(layers)]
