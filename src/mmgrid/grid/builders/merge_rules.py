"""The rules of a planned merge, as rules of the merging engine: for patterns of names, with open models or paths.

`own` tensors are the served domain's: the source itself with weight 1, or else that model as a base with a delta of zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.merging import MergeError
from mmgrid.merging.arrays.names import OUTSIDE, layer_of
from mmgrid.patterns import fits

OWN = "own"  # the role of the served domain's model


def engine_rules(
    recipe: Mapping[str, Any], tensors: Iterable[str], folders: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """The rules of a merge's recipe as keywords of a rule of a recipe of `mmgrid merge`; a base is the path of its folder.

    Args:
        tensors: the names of the models' tensors.
        folders: role → folder of the model.

    Raises:
        MergeError: no tensor is in a rule's place.
    """
    names = sorted(tensors)
    found = []
    for rule in recipe.get("rules", ()):
        where = {"tensors": patterns_of(rule, names)}
        if rule.get("own"):
            found.append(where | _own(recipe, folders))
            continue
        values = {key: rule[key] for key in ("method", "options", "scale", "weights")}
        found.append(where | values | ({"base": folders[rule["base"]]} if "base" in rule else {}))
    return found


def patterns_of(rule: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The patterns of a rule of a merge's recipe if they say all, else the names of its tensors.

    Raises:
        MergeError: the models have no such tensor.
    """
    patterns, layers = rule.get("tensors", ["*"]), rule.get("layers")
    fitting = [name for name in names if fits(name, patterns)]
    if not fitting:
        raise MergeError(f"rules: no tensor is called {' or '.join(patterns)}; the models have {names[0]}, …")
    if layers is None:
        return list(patterns)
    wanted = {None} if layers == OUTSIDE else set(range(layers[0], layers[1] + 1))
    known = {layer_of(name) for name in fitting}
    if not wanted <= known:
        numbers = sorted(number for number in known if number is not None)
        has = f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none"
        lacking = ", ".join(str(number) for number in sorted(wanted - known, key=str))
        raise MergeError(f"layers: the model has no layer {lacking}; {has}")
    return [name for name in fitting if layer_of(name) in wanted]


def _own(recipe: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    sources = {role.partition(":")[2]: folder for role, folder in folders.items() if role.startswith("source:")}
    source = next((name for name, folder in sources.items() if folder == folders[OWN]), None)
    if source is not None:
        weights = {name: float(name == source) for name in recipe["weights"]}
        return {"method": "linear", "options": {}, "scale": 1.0, "weights": weights}
    return {
        "method": "task_arithmetic",
        "options": {},
        "scale": 0.0,
        "weights": dict.fromkeys(recipe["weights"], 1.0),
        "base": folders[OWN],
    }
