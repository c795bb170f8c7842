"""Reads a grid file: TOML, environment variables, values from the command line, and clear errors."""

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mmgrid.files.addresses import address_in
from mmgrid.grid.file.merges import place_of
from mmgrid.grid.file.spec import GridSpec
from mmgrid.grid.file.values import expanded
from mmgrid.grid.file.variants import Variant
from mmgrid.paradigms import PARADIGMS
from mmgrid.studies.registry import STUDIES

_NAME = r"""(?:"[^"]+"|'[^']+'|[^.\[\]"']+)"""
KEY = re.compile(rf"{_NAME}(?:\.{_NAME}|\[[^\]]*\])*")  # of --set
PART_OF_KEY = re.compile(rf"\[([^\]]*)\]|({_NAME})")  # an index, or a name that may be quoted


class GridError(ValueError):
    """The grid file is wrong; the message names the file, the key and a remedy."""


@dataclass(frozen=True)
class Grid:
    """A parsed grid, and its file, whose folder is the start of relative paths."""

    spec: GridSpec
    file: Path

    def path(self, text: str) -> Path:
        """A path of the grid file, relative to the file's folder unless absolute."""
        return (self.file.parent / Path(text).expanduser()).resolve()


def load_grid(file: str | Path, settings: Mapping[str, Any] | Iterable[str] = ()) -> Grid:
    """Read a grid file, override single values, and check the result.

    Args:
        file: the grid file (TOML).
        settings: values by dotted key, `{"evaluation.max_users": 500}`, or as texts with TOML values,
            `["evaluation.max_users=500"]`.

    Raises:
        GridError: the file cannot be read, or a value is wrong; the message has one line for each mistake.
    """
    file = Path(file).expanduser()
    _check_is_file(file)
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GridError(f"{file}: no such file; `mmgrid init` writes one to start from") from None
    except IsADirectoryError:
        raise GridError(f"{file}: is a folder, not a grid file") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of numbers with thousands of digits
        raise GridError(f"{file}: is not valid TOML: {error}") from None
    for key, value in settings.items() if isinstance(settings, Mapping) else map(_parsed, settings):
        _set(tree, key, value)
    try:
        tree = expanded(tree)
    except ValueError as error:
        raise GridError(f"{file}: {error}") from None
    try:
        spec = GridSpec.model_validate(tree)
        for paradigm in spec.paradigms:
            _check_recipe(spec, ("paradigms", paradigm), paradigm)
        for number, variant in enumerate(spec.variants):
            for paradigm in variant.chosen(spec.paradigms):
                _check_recipe(spec, ("variants", number, "set"), paradigm, variant)
    except ValidationError as error:
        raise GridError("\n".join(_explain(error, file, tree))) from None
    return Grid(spec, file.resolve())


def _check_is_file(file: Path) -> None:
    if (address := address_in(file)) is not None:
        raise GridError(f"{address}: is an address; fetch the grid file, and name the file here")
    if str(file) == "-" and not file.exists():
        raise GridError("-: standard input is no grid file; write the grid into a file, and name it here")
    if file.exists() and not file.is_file() and not file.is_dir():
        raise GridError(
            f"{file}: is a pipe or a device; the store and the paths in a grid are beside its file, so write the grid "
            "into a file, and name it here"
        )


# Values for paradigms that start from the backbone: what others lack.
_FROM_A_BASE = {"base_decay": "is no base to decay towards", "lora": "are no weights for an adapter"}


def _check_recipe(spec: GridSpec, place: tuple[str | int, ...], paradigm: str, variant: Variant | None = None) -> None:
    try:
        recipe = spec.recipe(paradigm, variant)
    except ValidationError as error:
        lines = [dict(line, loc=(*place, *line["loc"])) for line in error.errors()]
        raise ValidationError.from_exception_data("GridSpec", [_as_init(line) for line in lines]) from None
    problems = {
        key: f"{paradigm} starts from no backbone, so there {lacking}"
        for key, lacking in _FROM_A_BASE.items()
        if getattr(recipe, key) and not PARADIGMS[paradigm].from_backbone
    }
    own = spec.recipe(paradigm).lora if variant is not None else None
    if own is not None and recipe.lora != own:
        problems["lora"] = (
            f"the training goes on with the adapter of the grid's {paradigm}, which has rank {own.rank}, alpha "
            f"{own.alpha:g} and targets {', '.join(own.targets)}; remove the key"
        )
    for key, problem in problems.items():
        wrong: Any = {
            "type": "value_error",
            "loc": (*place, key),
            "input": recipe,
            "ctx": {"error": ValueError(problem)},
        }
        raise ValidationError.from_exception_data("GridSpec", [wrong])


def _as_init(line: Mapping[str, Any]) -> Any:
    """An entry of `ValidationError.errors()`, converted to the form that `from_exception_data` takes."""
    context = dict(line.get("ctx") or {})
    if line["type"] == "value_error":
        context = {"error": context.get("error", line["msg"])}
    return {"type": line["type"], "loc": line["loc"], "input": line["input"], "ctx": context}


def _parsed(setting: str) -> tuple[str, Any]:
    """Key and value of a setting such as "evaluation.max_users=500"."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise GridError(f"--set {setting}: expected key=value, for example evaluation.max_users=500")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), text  # a bare word is a string


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key; a part may be quoted as in TOML, and `merges[0].scale` is in the first entry."""
    if KEY.fullmatch(key) is None:
        raise GridError(f"--set {key}: is no key; write it like evaluation.max_users, merges[0].scale or domains.'a.b'")
    place: Any = tree
    *parents, last = PART_OF_KEY.finditer(key)
    for part in parents:
        name = _name_in(place, part, key)
        place = place[name] if isinstance(place, list) else place.setdefault(name, {})
        if not isinstance(place, dict | list):
            raise GridError(f"--set {key}={value}: {key[: part.end()]} is not a table")
    place[_name_in(place, last, key)] = str(value) if isinstance(value, Path) else value


def _name_in(place: dict[str, Any] | list[Any], part: re.Match[str], key: str) -> Any:
    """What a part of a key means at its place: a name in a table, or the number of an entry that a list has."""
    index, name = part.groups("")
    if isinstance(place, dict) and name:
        return name.strip(name[0]) if name[0] in "\"'" else name
    number, above = name or index, key[: part.start()].removesuffix(".")
    if isinstance(place, list) and number in map(str, range(len(place))):
        return int(number)
    if isinstance(place, dict) and place:
        raise GridError(f"--set {key}: {above} is a table, not a list; write one of its keys in place of [{number}]")
    has = f"it has {len(place)}, the first is {above}[0]" if place else "it has none"
    raise GridError(f"--set {key}: {number} is no number of an entry of {above}; {has}")


# Where pydantic inserts the chosen variant of a union into a location: behind these places. It is no key of the file.
_UNIONS = (("backbone",), ("semantic_ids", "quantiser"), ("studies", 0), ("merges", 0))


def _explain(error: ValidationError, file: Path, tree: Mapping[str, Any]) -> list[str]:
    """One line for each problem: `file: key: problem; suggestion`."""
    from mmgrid.merging.errors import wrong_values  # imported late: for errors only

    lines = []
    for problem in wrong_values(error.errors()):
        loc = _in_file(problem["loc"])
        if problem["type"].startswith("union_tag"):
            loc.append("kind")
        key = _key(loc)
        if loc[:1] in (["merges"], ["families"]) and len(loc) > 1:
            section, number = str(loc[0]), int(loc[1])
            key = place_of(number, _name_of(tree, section, number), _key(loc[2:]), section)
        message = _message(problem)
        lines.append(f"{file}: {key}: {message}" if key else f"{file}: {message}")
    return lines


def _in_file(loc: Sequence[Any]) -> list[Any]:
    """A location without the names of variants."""
    for union in _UNIONS:
        if tuple(0 if isinstance(part, int) else part for part in loc[: len(union)]) == union:
            return [*loc[: len(union)], *loc[len(union) + 1 :]]
    return list(loc)


def _key(loc: Sequence[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _name_of(tree: Mapping[str, Any], section: str, number: int) -> Any:
    """The name of an entry of a section in the file, if it has one."""
    entry = tree[section][number]
    return entry.get("name") if isinstance(entry, Mapping) else None


def _message(problem: Mapping[str, Any]) -> str:
    """The problem with one value, in the words of a grid file."""
    from mmgrid.merging.errors import problem_of, shown

    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        wrong, known = str(problem["loc"][-1]), _known_keys(problem["loc"][:-1])
        nearest = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}"
        return f"unknown key; {hint}"
    if kind == "union_tag_not_found":
        return "is missing"
    if kind == "union_tag_invalid":
        if problem["loc"][0] == "studies" and context["tag"] in STUDIES.broken:
            return STUDIES.broken[context["tag"]]
        kinds = [kind.strip(" '") for kind in context["expected_tags"].split(",")]
        nearest = difflib.get_close_matches(context["tag"], kinds, n=1)
        listed = " or ".join((", ".join(map(repr, kinds[:-1])), repr(kinds[-1])))
        return f"should be {listed} (it is {context['tag']!r})" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
    if context.get("class_name") in ("PhaseValues", "PhaseSteps"):
        return f"should be a number, or a table with one for each phase (it is {shown(problem['input'])})"
    return problem_of(problem)


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys that are allowed at `location` in a grid file."""
    if len(location) >= 2 and location[0] == "paradigms" and location[1] in PARADIGMS:
        recipe = PARADIGMS[location[1]].recipe
        return _keys_below(recipe, location[2:]) if recipe else []
    return _keys_below(GridSpec, location)


def _keys_below(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue  # an index into a list, or the name of a union's variant
        models = _models_in(model.model_fields[part].annotation)
        chosen = [m for m in models if m.model_fields.get("kind") and _variant(m) in location]
        if not models:
            return []
        model = (chosen or models)[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _variant(model: type[BaseModel]) -> str | None:
    choices = typing.get_args(model.model_fields["kind"].annotation)
    return choices[0] if choices else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]
    return []
