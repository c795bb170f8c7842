"""Reads a mergekit file as a recipe, with mergekit's defaults and semantics.

Every parameter is resolved for every tensor, as in mergekit; tensors with equal results share one rule.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError, nearest
from mmgrid.merging.mergekit.file import Input, MergekitFile, ModelName, Parameters, parse
from mmgrid.merging.mergekit.meanings import METHODS, Meaning, MergekitMethod, Parameter, Values
from mmgrid.merging.mergekit.models import folder_of
from mmgrid.merging.mergekit.places import Places, patterns_for
from mmgrid.merging.mergekit.settings import conditional, filters_in, value_of
from mmgrid.merging.mergekit.vocabulary import vocabulary_of
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.plan.recipe import BASE_FILES, MergeRecipe, MergeRule, MergeSource

_TYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class MergekitRecipe:
    """A recipe, and notes on the differences from mergekit."""

    recipe: MergeRecipe
    notes: tuple[str, ...]


def read_mergekit(path: str | Path, *, seed: int = 0) -> MergekitRecipe:
    """Reads a mergekit file.

    Models are folders (relative to the working folder, as for mergekit, or to the file) or names on the Hub, which are
    read from the Hub's cache or downloaded.

    Args:
        path: the file.
        seed: seed of random methods; mergekit takes it from its command line.

    Raises:
        MergeError: the file is not a mergekit file, or contains a setting that is not supported; names the key.
    """
    return _Reader(parse(Path(path)), Path(path).absolute().parent, seed).read()


class _Reader:
    """The state of reading one file."""

    def __init__(self, file: MergekitFile, folder: Path, seed: int) -> None:
        self.file, self.seed = file, seed
        if file.method not in METHODS:
            raise MergeError(
                f"{file.where}: merge_method: {file.method!r} is not supported{nearest(file.method, METHODS)}; "
                f"known: {', '.join(METHODS)}"
            )
        self.method: MergekitMethod = METHODS[file.method]
        self.notes: dict[str, None] = {}
        self.models = list(dict.fromkeys(each.model for piece in file.slices for each in piece.inputs))
        if file.base is not None and file.base not in self.models:
            self.models.append(file.base)
        self.folders = {model: folder_of(model, folder, file.where) for model in self.models}
        self.names = _names(self.models)
        self._check_inputs()

    def _only_base(self) -> bool:
        """Whether the base is the only source of a method of task vectors; the result is then the base."""
        return self.method.base == "delta" and set(self.models) == {self.file.base}

    def read(self) -> MergekitRecipe:
        for key in self.file.unknown:
            self.note(f"{key}: is not a key of mergekit; ignored, as in mergekit")
        if self.file.chat_template:
            self.note("chat_template: is not applied; the copied tokenizer keeps its template")
        self._note_unread()
        inputs = [each.model for each in self.file.slices[0].inputs]
        sources = [model for model in inputs if not (model == self.file.base and self.method.base != "input")]
        if self._only_base():
            self.note(f"models: holds only the base, so that {self.file.method} gives the base, as in mergekit")
            only = self._source(inputs[0], {})
            recipe = MergeRecipe(method="linear", sources=(only,), seed=self.seed, dtype=self._dtype())
            return MergekitRecipe(recipe, tuple(self.notes))
        grouped = self._grouped()
        common = max(grouped, key=lambda meaning: len(grouped[meaning]))
        first = json.loads(common)
        base, under = self._base()
        recipe = MergeRecipe(
            method=first["method"],
            sources=tuple(self._source(model, first["weights"]) for model in sources),
            base=base,
            base_onto=under,
            scale=first["scale"],
            seed=self.seed,
            dtype=self._dtype(),
            options=first["options"],
            rules=tuple(self._rules(grouped, common)),
            companions=self._companions(sources),
            vocabulary=vocabulary_of(self.file, self.names, base is None),
        )
        return MergekitRecipe(recipe, tuple(self.notes))

    def note(self, text: str) -> None:
        self.notes[text] = None

    def _check_inputs(self) -> None:
        """Checks mergekit's requirements on the models of each slice."""
        least, most = self.method.inputs
        for number, piece in enumerate(self.file.slices):
            where = f"{self.file.where}: slices[{number}]" if self.file.sliced else f"{self.file.where}: models"
            models = [each.model for each in piece.inputs]
            if len(set(models)) < len(models):
                raise MergeError(f"{where}: a model is named twice")
            needs_base = self.method.base == "delta" or self.file.method == "slerp"
            if needs_base and self.file.base is None:
                raise MergeError(f"{self.file.where}: base_model: {self.file.method} needs a base_model")
            if (
                self.file.base is not None
                and self.file.base not in models
                and (needs_base or self.method.base == "optional")
            ):
                raise MergeError(f"{where}: the base_model must be among the sources of each slice")
            if not least <= len(models) <= (len(models) if most is None else most):
                raise MergeError(
                    f"{where}: {self.file.method} takes {_many(least, most)} models including the base, but "
                    f"{len(models)} are given"
                )
            others, (least, most) = sum(model != self.file.base for model in models), self.method.others
            if not least <= others <= (others if most is None else most):
                raise MergeError(
                    f"{where}: {self.file.method} takes {_many(least, most)} models besides the base, but {others} are given"
                )

    def _note_unread(self) -> None:
        """Adds notes on the parameters that mergekit ignores."""
        known = {parameter.name: parameter for parameter in self.method.parameters}
        everywhere: list[tuple[Parameters, bool]] = [(scope, False) for scope in self.file.parameters]
        for piece in self.file.slices:
            everywhere += [(piece.parameters, False), *((each.parameters, True) for each in piece.inputs)]
        for parameters, of_model in everywhere:
            for name in parameters:
                if name not in known:
                    self.note(f"{name}: is not a parameter of {self.file.method}; ignored, as in mergekit")
                elif of_model and known[name].scope == "shared":
                    self.note(
                        f"{name}: is read only under the file's parameters; ignored under a model, as in mergekit"
                    )

    def _base(self) -> tuple[Path | None, Path | None]:
        """The folder of the base, or of its adapter and below it of its model."""
        if self.file.base is None or self.method.base == "input":
            return None, None
        return self._places(self.file.base)

    def _source(self, model: ModelName, weights: Mapping[str, float]) -> MergeSource:
        name = self.names[model]
        path, onto = self._places(model)
        return MergeSource(path=path, onto=onto, name=name, weight=weights.get(name))

    def _places(self, model: ModelName) -> tuple[Path, Path | None]:
        """The folder of a model; for one with an adapter, the adapter's folder and the model's."""
        if model.adapter is None:
            return self.folders[model], None
        path, _, revision = model.adapter.partition("@")
        adapter = folder_of(ModelName(path, revision or None), Path(self.file.where).absolute().parent, self.file.where)
        return adapter, self.folders[model]

    def _dtype(self) -> Any:
        for key, given in (("out_dtype", self.file.out_dtype), ("dtype", self.file.dtype)):
            if given is not None:
                name = str(given).removeprefix("torch.")
                if name not in _TYPES:
                    raise MergeError(
                        f"{self.file.where}: {key}: {given!r} is not supported; known: {', '.join(_TYPES)}"
                    )
                return name
        return "source"

    def _companions(self, sources: Sequence[ModelName]) -> str | None:
        """The name of the model whose config is copied; None for the first source."""
        chosen = self.file.base or sources[0]
        if chosen in sources:
            return None if chosen == sources[0] else self.names[chosen]
        return BASE_FILES

    def _grouped(self) -> dict[str, list[str]]:
        """Meaning as JSON → the tensors with this meaning."""
        several = len(self.file.slices) > 1 or any(
            conditional(scope)
            for scope in (
                *self.file.parameters,
                *(piece.parameters for piece in self.file.slices),
                *(each.parameters for piece in self.file.slices for each in piece.inputs),
            )
        )
        if not several and not self.file.sliced:
            return {self._meaning("", 0, 0.0): []}
        tensors = self._tensors()
        places = Places(self.file, tensors)
        if not several:
            return {self._meaning("", 0, 0.0): []}
        grouped: dict[str, list[str]] = {}
        for tensor in tensors:
            grouped.setdefault(self._meaning(tensor, *places.of(tensor)), []).append(tensor)
        return grouped

    def _tensors(self) -> list[str]:
        model = next((model for model in self.models if not model.adapter), self.models[0])
        with open_source(self.folders[model]) as opened:
            return sorted(opened)

    def _meaning(self, tensor: str, number: int, depth: float) -> str:
        piece = self.file.slices[number]
        outer = (piece.parameters, *self.file.parameters)
        where = self.file.where

        def value(parameter: Parameter, scopes: Iterable[Parameters], place: str) -> Any:
            found = value_of(parameter.name, parameter.kind, scopes, tensor, depth, place)
            if found is None and parameter.needed:
                at = f" for tensor {tensor}" if tensor else ""
                raise MergeError(f"{place}: {parameter.name}: {self.file.method} needs it{at}")
            return parameter.default if found is None else found

        def own(each: Input) -> dict[str, Any]:
            place = f"{where}: {each.model}"
            scopes = (each.parameters, *outer)
            return {p.name: value(p, scopes, place) for p in self.method.parameters if p.scope != "shared"}

        shared = {
            p.name: value(p, outer, f"{where}: parameters") for p in self.method.parameters if p.scope == "shared"
        }
        models = [each for each in piece.inputs if self.method.base == "input" or each.model != self.file.base]
        base = None if self.file.base is None else self.names[self.file.base]
        values = Values(shared, {self.names[each.model]: own(each) for each in models}, base, self.note)
        try:
            meaning: Meaning = self.method.meaning(values)
        except MergeError as error:
            raise MergeError(f"{where}: {error}") from error
        return json.dumps(vars(meaning), sort_keys=True)

    def _rules(self, grouped: Mapping[str, Sequence[str]], common: str) -> Iterable[MergeRule]:
        tensors = sorted(name for names in grouped.values() for name in names)
        scopes = [*self.file.parameters]
        for piece in self.file.slices:
            scopes += [piece.parameters, *(each.parameters for each in piece.inputs)]
        filters = [text for scope in scopes for text in filters_in(scope)]
        usual, taken = json.loads(common), set[str]()
        for meaning in sorted(grouped, key=lambda meaning: (len(grouped[meaning]), meaning)):
            if meaning == common:
                continue
            own, names = json.loads(meaning), grouped[meaning]
            patterns = patterns_for(names, taken, tensors, filters)
            taken |= set(names)
            other = own["method"] != usual["method"]
            yield MergeRule(
                tensors=patterns,
                method=own["method"] if other else None,
                weights=own["weights"] if own["weights"] != usual["weights"] else None,
                options=own["options"] if other or own["options"] != usual["options"] else None,
                scale=own["scale"] if own["scale"] != usual["scale"] else None,
            )


def _many(least: int, most: int | None) -> str:
    return f"{least}" if least == most else f"at least {least}" if most is None else f"at most {most}"


def _names(models: Sequence[ModelName]) -> dict[ModelName, str]:
    """The last part of each path if it is unique, else the full name."""
    short = {model: Path((model.adapter or model.path).partition("@")[0]).name or str(model) for model in models}
    counts = list(short.values())
    return {model: name if counts.count(name) == 1 else str(model) for model, name in short.items()}
