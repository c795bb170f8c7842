"""The content of a mergekit file, before it is interpreted. Unknown keys are collected for notes and otherwise ignored.

Source: the documentation of mergekit 0.1.5, https://github.com/arcee-ai/mergekit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmgrid.merging.errors import MergeError, nearest

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
)
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class ModelName:
    """A model as named in the file: a folder or a name on the hub, with an optional revision and LoRA adapter.

    The adapter may have a revision, too: `ORG/NAME@REVISION`.
    """

    path: str
    revision: str | None = None
    adapter: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return self.path + revision + (f"+{self.adapter}" if self.adapter else "")


@dataclass(frozen=True)
class Input:
    """One model of a slice: its layers [first, last) (None: all layers) and its parameters."""

    model: ModelName
    layers: tuple[int, int] | None
    parameters: Parameters


@dataclass(frozen=True)
class Slice:
    """A range of layers of the result, merged from one model or several."""

    inputs: tuple[Input, ...]
    parameters: Parameters


@dataclass(frozen=True)
class MergekitFile:
    """A mergekit file. `parameters` are the module's, if any, then the file's; the first that sets a value wins."""

    where: str
    method: str
    slices: tuple[Slice, ...]
    base: ModelName | None
    parameters: tuple[Parameters, ...]
    dtype: str | None
    out_dtype: str | None
    tokenizer: Mapping[str, Any] | None
    chat_template: str | None
    sliced: bool
    unknown: tuple[str, ...] = field(default=())


def parse(path: Path) -> MergekitFile:
    """Reads a file.

    Raises:
        MergeError: the file is missing, is not YAML, or is not a mergekit file; names the key.
    """
    where = str(path)
    value = _document(path)
    if not isinstance(value, Mapping) or "merge_method" not in value:
        raise MergeError(f"{where}: is not a mergekit file: it has no merge_method")
    given = [key for key in ("models", "slices", "modules") if value.get(key)]
    if len(given) != 1:
        raise MergeError(
            f"{where}: needs exactly one of models, slices and modules, has {' and '.join(given) or 'none'}"
        )
    module, scopes = value, [_parameters(value, where)]
    if given == ["modules"]:
        where_module, module = _only_module(value["modules"], where)
        scopes.insert(0, _parameters(module, where_module))
    base = None if value.get("base_model") is None else model_name(value["base_model"], f"{where}: base_model")
    slices = _slices(module, where, base)
    return MergekitFile(
        where=where,
        method=str(value["merge_method"]),
        slices=slices,
        base=base,
        parameters=tuple(scopes),
        dtype=value.get("dtype"),
        out_dtype=value.get("out_dtype"),
        tokenizer=_tokenizer(value, where),
        chat_template=value.get("chat_template"),
        sliced=bool(module.get("slices")),
        unknown=tuple(f"{key}{nearest(str(key), KEYS)}" for key in value if key not in KEYS),
    )


def _document(path: Path) -> Any:
    try:
        documents = list(yaml.safe_load_all(path.read_bytes()))
    except FileNotFoundError:
        raise MergeError(f"{path}: does not exist") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MergeError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if len(documents) > 1:
        raise MergeError(f"{path}: contains {len(documents)} merges (for mergekit-multi); put each in a separate file")
    return documents[0] if documents else None


def _only_module(modules: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(modules, Mapping) or len(modules) != 1:
        names = ", ".join(modules) if isinstance(modules, Mapping) else modules
        raise MergeError(f"{where}: modules: {names}: only one module can be merged; use models for a whole model")
    ((name, module),) = modules.items()
    if not isinstance(module, Mapping) or bool(module.get("models")) == bool(module.get("slices")):
        raise MergeError(f"{where}: modules.{name}: needs exactly one of models and slices")
    return f"{where}: modules.{name}", module


def _slices(module: Mapping[str, Any], where: str, base: ModelName | None) -> tuple[Slice, ...]:
    if module.get("models"):
        inputs = tuple(
            _input(item, f"{where}: models[{number}]") for number, item in enumerate(_list(module, "models", where))
        )
        if base is not None and base not in [each.model for each in inputs]:
            inputs = (*inputs, Input(base, None, {}))  # mergekit, too, adds the base to the inputs
        return (Slice(inputs, {}),)
    slices = []
    for number, item in enumerate(_list(module, "slices", where)):
        place = f"{where}: slices[{number}]"
        if not isinstance(item, Mapping) or not item.get("sources"):
            raise MergeError(f"{place}: needs sources")
        if item.get("base_model") is not None and model_name(item["base_model"], f"{place}.base_model") != base:
            raise MergeError(f"{place}.base_model: all slices share one base; give base_model once for the file")
        inputs = tuple(
            _input(each, f"{place}.sources[{n}]", layers=True) for n, each in enumerate(_list(item, "sources", place))
        )
        slices.append(Slice(inputs, _parameters(item, place)))
    return tuple(slices)


def _input(item: Any, where: str, *, layers: bool = False) -> Input:
    if not isinstance(item, Mapping) or item.get("model") is None:
        raise MergeError(f"{where}: needs model")
    model, parameters = model_name(item["model"], f"{where}.model"), _parameters(item, where)
    if not layers:
        return Input(model, None, parameters)
    given = item.get("layer_range")
    if not isinstance(given, Sequence) or len(given) != 2 or not all(type(number) is int for number in given):
        raise MergeError(f"{where}.layer_range: needs two integers, the first layer and the one after the last")
    return Input(model, (given[0], given[1]), parameters)


def model_name(value: Any, where: str) -> ModelName:
    """Reads a model from `path[@revision][+adapter]`, or from the mapping that mergekit writes."""
    adapter = None
    if isinstance(value, Mapping) and "model" in value:
        if value.get("override_architecture") is not None:
            raise MergeError(
                f"{where}: override_architecture is not supported: tensors are matched by name; leave it out"
            )
        value, adapter = value["model"], value.get("lora")
    elif isinstance(value, str) and "+" in value:
        value, _, adapter = value.partition("+")
    if isinstance(adapter, Mapping):
        at = f"@{adapter['revision']}" if adapter.get("revision") else ""
        adapter = f"{adapter.get('path') or ''}{at}"
    if isinstance(value, Mapping):
        path, revision = value.get("path"), value.get("revision")
    else:
        path, _, revision = str(value).partition("@")
    if not path or "+" in str(adapter) or "@" in str(revision):
        raise MergeError(f"{where}: {value!r} is not a model; give a folder or a name on the hub")
    if adapter is not None and (not adapter.partition("@")[0] or adapter.count("@") > 1):
        raise MergeError(f"{where}: {adapter!r} is not an adapter; give a folder or a name on the hub")
    return ModelName(str(path), str(revision) if revision else None, adapter)


def _tokenizer(value: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    """The tokenizer settings in the form of the key `tokenizer`."""
    source, tokenizer = value.get("tokenizer_source"), value.get("tokenizer")
    if source is not None and tokenizer is not None:
        raise MergeError(f"{where}: tokenizer_source and tokenizer cannot both be given")
    if source is not None:
        return {"source": source}
    if tokenizer is None:
        return None
    if not isinstance(tokenizer, Mapping):
        raise MergeError(f"{where}: tokenizer: needs source, tokens, pad_to_multiple_of")
    return {"source": "union", **tokenizer}


def _parameters(item: Mapping[str, Any], where: str) -> Parameters:
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise MergeError(f"{where}: parameters: needs names and values")
    return parameters


def _list(item: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    value = item[key]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise MergeError(f"{where}: {key}: needs a list")
    return value
