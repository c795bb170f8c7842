"""The content of a mergekit file, before it is interpreted. Unknown keys are collected for notes and otherwise ignored.

Source: the documentation of mergekit 0.1.5, https://github.com/arcee-ai/mergekit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.ignored import ignore
from mmgrid.merging.mergekit.lines import Lined, at, load_lined
from mmgrid.merging.mergekit.model_name import ModelName, model_name
from mmgrid.merging.mergekit.scalars import whole
from mmgrid.merging.models.file_kinds import impostor

KEYS = (
    "merge_method",
    "models",
    "slices",
    "modules",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
    "name",
)
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Input:
    """One model of a slice: its layers [first, last) (None: all layers) and its parameters."""

    model: ModelName
    layers: tuple[int, int] | None
    parameters: Parameters
    where: str = ""


@dataclass(frozen=True)
class Slice:
    """A range of layers of the result, merged from one model or several; `base` is its own base, else the file's."""

    inputs: tuple[Input, ...]
    parameters: Parameters
    base: ModelName | None
    where: str


@dataclass(frozen=True)
class Module:
    """A part of the model, such as a tower, with its slices; `name` is None if the file names no modules."""

    name: str | None
    slices: tuple[Slice, ...]
    parameters: Parameters
    where: str
    sliced: bool


@dataclass(frozen=True)
class MergekitFile:
    """A mergekit file.

    Attributes:
        where: the file's name, for errors.
        ignored: what stands in the file and mergekit does not read, in words.
        name: the name of the merge among several in one file.
        lines: key → its line.
    """

    where: str
    method: str
    modules: tuple[Module, ...]
    base: ModelName | None
    parameters: Parameters
    dtype: str | None
    out_dtype: str | None
    tokenizer: Mapping[str, Any] | None
    chat_template: str | None
    ignored: tuple[str, ...] = field(default=())
    name: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)

    def at(self, key: str) -> str:
        """The file's name, with the line of a key."""
        return f"{self.where}, line {self.lines[key]}" if key in self.lines else self.where

    @property
    def slices(self) -> tuple[Slice, ...]:
        return tuple(piece for module in self.modules for piece in module.slices)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(each for piece in self.slices for each in piece.inputs)

    @property
    def scopes(self) -> tuple[Parameters, ...]:
        """All parameters of the file, of each module, slice and model."""
        found = [self.parameters, *(module.parameters for module in self.modules)]
        return (*found, *(one.parameters for one in self.slices), *(one.parameters for one in self.inputs))


def parse(path: Path) -> MergekitFile:
    """Reads a file with one merge.

    Raises:
        MergeError: the file is missing, is not YAML, or is not a mergekit file; names the line and the key.
    """
    found = parse_all(path)
    if len(found) != 1:
        raise MergeError(f"{path}: contains {len(found)} merges, one after another; `read_merges` reads them")
    return found[0]


def parse_all(path: Path) -> list[MergekitFile]:
    """Reads all merges of a file: one for each YAML document.

    Raises:
        MergeError: as `parse`, or two merges have the same name.
    """
    try:
        documents = load_lined(path)
    except FileNotFoundError:
        raise MergeError(f"{path}: does not exist") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = impostor(path) or f"is not YAML ({' '.join(str(error).split())})"
        raise MergeError(f"{path}: {problem}") from error
    documents = [value for value in documents if value is not None] or [None]
    found = [_parsed(value, str(path)) for value in documents]
    for number, one in enumerate(found):
        if one.name in [other.name for other in found[:number]]:
            called = f"two merges are called {one.name}" if one.name else "two merges have no name"
            raise MergeError(f"{at(str(path), documents[number], 'name')}: {called}; give each its own name")
    return found


def _parsed(value: Any, path: str) -> MergekitFile:
    if not isinstance(value, Mapping) or "merge_method" not in value:
        problem = impostor(Path(path)) or "is not a mergekit file: it has no merge_method"
        raise MergeError(f"{path}: {problem}")
    where = at(path, value)
    given = [key for key in ("models", "slices", "modules") if value.get(key)]
    if len(given) != 1:
        raise MergeError(
            f"{where}: needs exactly one of models, slices and modules, has {' and '.join(given) or 'none'}"
        )
    ignored: list[str] = []
    ignore(value, KEYS, "", ignored)
    base = None
    if value.get("base_model") is not None:
        base = model_name(value["base_model"], f"{at(where, value, 'base_model')}: base_model", ignored)
    if given == ["modules"]:
        modules = _modules(value, where, base, ignored)
    else:
        modules = (_module(None, value, where, base, ignored),)
    return MergekitFile(
        where=path,
        method=str(value["merge_method"]),
        modules=modules,
        base=base,
        parameters=_parameters(value, where, ignored),
        dtype=value.get("dtype") or None,
        out_dtype=value.get("out_dtype") or None,
        tokenizer=_tokenizer(value, where, ignored),
        chat_template=_chat_template(value, where),
        ignored=tuple(ignored),
        name=_name(value, where),
        lines=value.lines if isinstance(value, Lined) else {},
    )


def _name(value: Mapping[str, Any], where: str) -> str | None:
    """The name of a merge among several; None if it has none."""
    name = value.get("name")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int | float)):
        raise MergeError(f"{at(where, value, 'name')}: name: needs a name, not {name!r}")
    return None if name is None else str(name)


def _modules(value: Mapping[str, Any], where: str, base: ModelName | None, ignored: list[str]) -> tuple[Module, ...]:
    modules, where = value["modules"], at(where, value, "modules")
    if not isinstance(modules, Mapping):
        raise MergeError(f"{where}: modules: needs names of modules, each with models or slices")
    found = []
    for name, module in modules.items():
        place = f"{at(where, modules, name)}: modules.{name}"
        if not isinstance(module, Mapping) or bool(module.get("models")) == bool(module.get("slices")):
            raise MergeError(f"{place}: needs exactly one of models and slices")
        ignore(module, ("models", "slices", "parameters"), f"modules.{name}", ignored)
        found.append(_module(str(name), module, place, base, ignored))
    return tuple(found)


def _module(
    name: str | None, module: Mapping[str, Any], where: str, base: ModelName | None, ignored: list[str]
) -> Module:
    parameters = {} if name is None else _parameters(module, where, ignored, f"modules.{name}")
    if module.get("models"):
        inputs = tuple(
            _input(item, f"{at(where, item)}: models[{number}]", ignored)
            for number, item in enumerate(_list(module, "models", where))
        )
        if base is not None and base not in [each.model for each in inputs]:
            inputs = (*inputs, Input(base, None, {}))  # mergekit, too, adds the base to the inputs
        place = f"{at(where, module, 'models')}: models"
        return Module(name, (Slice(inputs, {}, base, place),), parameters, where, sliced=False)
    slices = []
    for number, item in enumerate(_list(module, "slices", where)):
        place = f"{at(where, item)}: slices[{number}]"
        if not isinstance(item, Mapping) or not item.get("sources"):
            raise MergeError(f"{place}: needs sources")
        ignore(item, ("sources", "base_model", "residual_weight", "parameters"), f"slices[{number}]", ignored)
        if item.get("residual_weight") is not None:
            ignored.append(f"slices[{number}]: residual_weight: has no effect in mergekit, and none here")
        own = base
        if item.get("base_model") is not None:
            own = model_name(item["base_model"], f"{at(place, item, 'base_model')}.base_model", ignored)
        inputs = tuple(
            _input(each, f"{at(place, each)}.sources[{n}]", ignored, layers=True)
            for n, each in enumerate(_list(item, "sources", place))
        )
        slices.append(Slice(inputs, _parameters(item, place, ignored, f"slices[{number}]"), own, place))
    return Module(name, tuple(slices), parameters, where, sliced=True)


def _input(item: Any, where: str, ignored: list[str], *, layers: bool = False) -> Input:
    if not isinstance(item, Mapping) or item.get("model") is None:
        raise MergeError(f"{where}: needs model")
    place = where.rpartition(": ")[2]
    ignore(item, ("model", "parameters", *(("layer_range",) if layers else ())), place, ignored)
    model = model_name(item["model"], f"{where}.model", ignored)
    parameters = _parameters(item, where, ignored, place)
    if not layers:
        return Input(model, None, parameters, where)
    given = item.get("layer_range")
    numbers = [whole(number) for number in given] if isinstance(given, list) and len(given) == 2 else [None, None]
    first, last = numbers
    if first is None or last is None:
        raise MergeError(
            f"{at(where, item, 'layer_range')}.layer_range: needs two integers, the first layer and the one after the last"
        )
    if not 0 <= first <= last:
        raise MergeError(
            f"{at(where, item, 'layer_range')}.layer_range: {numbers} must be the first layer and the one after the last"
        )
    return Input(model, (first, last), parameters, where)


def _chat_template(value: Mapping[str, Any], where: str) -> str | None:
    template = value.get("chat_template")
    if template is not None and not isinstance(template, str):
        raise MergeError(
            f"{at(where, value, 'chat_template')}: chat_template: needs text: auto, or a template in Jinja"
        )
    return template or None


def _tokenizer(value: Mapping[str, Any], where: str, ignored: list[str]) -> Mapping[str, Any] | None:
    """The tokenizer settings in the form of the key `tokenizer`."""
    source, tokenizer = value.get("tokenizer_source"), value.get("tokenizer")
    if source is not None and tokenizer is not None:
        raise MergeError(f"{at(where, value, 'tokenizer_source')}: tokenizer_source and tokenizer cannot both be given")
    if source is not None:
        return {"source": source}
    if tokenizer is None:
        return None
    if not isinstance(tokenizer, Mapping):
        raise MergeError(f"{at(where, value, 'tokenizer')}: tokenizer: needs source, tokens, pad_to_multiple_of")
    ignore(tokenizer, ("source", "tokens", "pad_to_multiple_of"), "tokenizer", ignored)
    for token, rule in tokens.items() if isinstance(tokens := tokenizer.get("tokens"), Mapping) else ():
        if isinstance(rule, Mapping):
            ignore(rule, ("source", "force"), f"tokenizer: tokens: {token}", ignored)
    return {"source": "union", **tokenizer}


def _parameters(item: Mapping[str, Any], where: str, ignored: list[str], place: str = "") -> Parameters:
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise MergeError(f"{at(where, item, 'parameters')}: parameters: needs names and values")
    ignore(parameters, list(parameters), f"{place}{'.' if place else ''}parameters", ignored)
    for name, value in parameters.items():
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Mapping):
                ignore(entry, ("value", "filter"), f"{place}{'.' if place else ''}parameters: {name}", ignored)
    return parameters


def _list(item: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    value = item[key]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise MergeError(f"{at(where, item, key)}: {key}: needs a list")
    return value
