"""Reads a mergekit file as a recipe, with mergekit's defaults and semantics.

Every parameter is resolved for every tensor, as in mergekit; tensors with equal results share one rule.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError, nearest
from mmgrid.merging.mergekit.file import Input, MergekitFile, Parameters, parse
from mmgrid.merging.mergekit.lines import at
from mmgrid.merging.mergekit.meanings import COUNTED, METHODS, Meaning, MergekitMethod, Parameter, Values
from mmgrid.merging.mergekit.model_name import ModelName
from mmgrid.merging.mergekit.models import folder_of
from mmgrid.merging.mergekit.places import Places, Slot, inner_name, names_of, patterns_for, slots_of
from mmgrid.merging.mergekit.settings import conditional, filters_in, value_of
from mmgrid.merging.mergekit.stacks import Stacks
from mmgrid.merging.mergekit.templates import chat_template_of
from mmgrid.merging.mergekit.vocabulary import vocabulary_of
from mmgrid.merging.models.chat_formats import CHAT_FORMATS, chat_template
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.plan.recipe import BASE_FILES, Layers, MergeRecipe, MergeRule, MergeSource
from mmgrid.merging.plan.stacks import models_in, stacked

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
        MergeError: the file is not a mergekit file, holds several merges (see `read_merges`), or contains a setting that
            is not supported; names the key and, where it is known, the line.
    """
    return read_parsed(parse(Path(path)), Path(path).absolute().parent, seed)


def read_parsed(
    file: MergekitFile, folder: Path, seed: int, merged: Mapping[str, Path] | None = None
) -> MergekitRecipe:
    """As `read_mergekit`, of a file that is parsed.

    Args:
        folder: the file's.
        merged: model → folder, for models that are other merges of the same file.
    """
    return _Reader(file, folder, seed, merged or {}).read()


class _Reader:
    """The state of reading one merge."""

    def __init__(self, file: MergekitFile, folder: Path, seed: int, merged: Mapping[str, Path]) -> None:
        self.file, self.seed = file, seed
        if file.method not in METHODS:
            raise MergeError(
                f"{file.at('merge_method')}: merge_method: {file.method!r} is not supported{nearest(file.method, METHODS)}; "
                f"known: {', '.join(METHODS)}"
            )
        self.method: MergekitMethod = METHODS[file.method]
        self.notes: dict[str, None] = {}
        self._check_inputs()
        bases = [piece.base for piece in file.slices if piece.base is not None]
        self.models = list(dict.fromkeys([*(each.model for each in file.inputs), *bases]))
        self.folders = {
            model: merged[model.path] if model.path in merged else folder_of(model, folder, self._line_of(model))
            for model in self.models
        }
        self.names = _names(self.models)
        self.places = Places(file, base_apart=self.method.base != "input")
        self.slots = slots_of(self.places.regions, self._can_pad(), file.method)
        self.called = names_of(self.slots, self.names)  # pyright: ignore[reportArgumentType]

    def _line_of(self, model: ModelName) -> str:
        """The file's name with the line at which a model stands."""
        place = next((each.where for each in self.file.inputs if each.model == model and each.where), "")
        return place.partition(": ")[0] or self.file.at("base_model")

    def _can_pad(self) -> bool:
        """Whether a model of weight 0 changes nothing."""
        return any(parameter.name == "weight" for parameter in self.method.parameters)

    def _only_base(self) -> bool:
        """Whether the base is the only source of a method of task vectors; the result is then the base."""
        return self.method.base == "delta" and not any(region.others for region in self.places.regions)

    def read(self) -> MergekitRecipe:
        for text in self.file.ignored:
            self.note(text)
        self._note_unread()
        stacks = Stacks(self.file, self.places, self.folders, self.models)
        base_slot = Slot(tuple(region.base for region in self.places.regions))
        apart = any(each is not None for each in base_slot.inputs)
        if apart and None in base_slot.inputs:
            raise MergeError(
                f"{self.file.at('slices')}: base_model: some slices have one and others none; give it to all"
            )
        chosen = self.file.base or self.models[0]
        template = chat_template_of(self.file, self.folders)
        if (given := self.file.chat_template) in CHAT_FORMATS and template != chat_template(str(given)):
            self.note(f"chat_template: {given}: has the white space of mergekit's template, which the format lacks")
        if self._only_base():
            self.note(f"models: holds only the base, so that {self.file.method} gives the base, as in mergekit")
            only = self._source(base_slot, self.names[chosen], None, chosen, stacks)
            recipe = MergeRecipe(
                method="linear", sources=(only,), seed=self.seed, dtype=self._dtype(), chat_template=template
            )
            return MergekitRecipe(recipe, tuple(self.notes))
        own = {name: stacks.own(slot, chosen) for name, slot in zip(self.called, self.slots, strict=True)}
        if chosen not in own.values() and not (apart and stacks.own(base_slot, chosen) == chosen):
            own[self.called[0]] = chosen  # its config is copied, though nothing of it is merged
        built = {
            name: self._source(slot, name, None, own[name], stacks)
            for name, slot in zip(self.called, self.slots, strict=True)
        }
        base = self._source(base_slot, "base", None, stacks.own(base_slot, chosen), stacks) if apart else None
        grouped = self._grouped(next(iter(built.values())))
        common = max(grouped, key=lambda meaning: len(grouped[meaning]))
        first = json.loads(common)
        names = self.names | {model: name for name, model in reversed(own.items())}
        recipe = MergeRecipe(
            method=first["method"],
            sources=tuple(
                source.model_copy(update={"weight": first["weights"].get(name)}) for name, source in built.items()
            ),
            base=None if base is None else base.path,
            base_onto=None if base is None else base.onto,
            base_stack=() if base is None else base.stack,
            scale=first["scale"],
            seed=self.seed,
            dtype=self._dtype(),
            options=first["options"],
            rules=tuple(self._rules(grouped, common)),
            companions=self._companions(own, chosen, base is not None),
            vocabulary=vocabulary_of(self.file, names, base is None),
            chat_template=template,
        )
        return MergekitRecipe(recipe, tuple(self.notes))

    def note(self, text: str) -> None:
        self.notes[text] = None

    def _check_inputs(self) -> None:
        """Checks mergekit's requirements on the models of each slice."""
        for piece in self.file.slices:
            where, (least, most) = piece.where, self.method.inputs
            models = [each.model for each in piece.inputs]
            if len(set(models)) < len(models):
                raise MergeError(f"{where}: a model is named twice")
            needs_base = self.method.base == "delta" or self.file.method == "slerp"
            if needs_base and piece.base is None:
                raise MergeError(f"{where}: base_model: {self.file.method} needs a base_model")
            if piece.base is not None and piece.base not in models and (needs_base or self.method.base == "optional"):
                raise MergeError(f"{where}: the base_model must be among the sources of each slice")
            if not least <= len(models) <= (len(models) if most is None else most):
                raise MergeError(
                    f"{where}: {self.file.method} takes {_many(least, most)} models including the base, but "
                    f"{len(models)} are given"
                )
            others, (least, most) = sum(model != piece.base for model in models), self.method.others
            if not least <= others <= (others if most is None else most):
                raise MergeError(
                    f"{where}: {self.file.method} takes {_many(least, most)} models besides the base, but {others} are given"
                )

    def _note_unread(self) -> None:
        """Adds notes on the parameters that mergekit ignores."""
        known = {parameter.name: parameter for parameter in self.method.parameters}
        of_models = [id(each.parameters) for each in self.file.inputs]
        for parameters in self.file.scopes:
            for name in parameters:
                if name not in known:
                    self.note(f"{name}: is not a parameter of {self.file.method}; ignored, as in mergekit")
                elif id(parameters) in of_models and known[name].scope == "shared":
                    self.note(
                        f"{name}: is read only under the file's parameters; ignored under a model, as in mergekit"
                    )

    def _source(self, slot: Slot, name: str, weight: float | None, own: ModelName, stacks: Stacks) -> MergeSource:
        path, onto = self._paths(own)
        stack = tuple(
            Layers(layers=layers, of=of)
            if model == own
            else Layers(layers=layers, of=of, path=self._paths(model)[0], onto=self._paths(model)[1])
            for model, layers, of in stacks.of(slot, own)
        )
        return MergeSource(path=path, onto=onto, name=name, weight=weight, stack=stack)

    def _paths(self, model: ModelName) -> tuple[Path, Path | None]:
        """The folder of a model; for one with an adapter, the adapter's folder and the model's."""
        if model.adapter is None:
            return self.folders[model], None
        path, _, revision = model.adapter.partition("@")
        name, folder = ModelName(path, revision or None), Path(self.file.where).absolute().parent
        adapter = folder_of(name, folder, self._line_of(model))
        return adapter, self.folders[model]

    def _dtype(self) -> Any:
        for key, given in (("out_dtype", self.file.out_dtype), ("dtype", self.file.dtype)):
            if given is not None:
                name = str(given).removeprefix("torch.")
                if name not in _TYPES:
                    raise MergeError(
                        f"{self.file.at(key)}: {key}: {given!r} is not supported; known: {', '.join(_TYPES)}"
                    )
                return name
        return "source"

    def _companions(self, own: Mapping[str, ModelName], chosen: ModelName, has_base: bool) -> str | None:
        """The name of the source whose config is copied; None for the first source."""
        if has_base and self.file.base is not None:
            return BASE_FILES
        name = next((name for name, model in own.items() if model == chosen), None)
        if name is None:
            return BASE_FILES
        return None if name == self.called[0] else name

    def _grouped(self, first: MergeSource) -> dict[str, list[str]]:
        """Meaning as JSON → the tensors with this meaning."""
        whole = not self.places.named or self.places.named == ["default"]
        if (
            whole
            and self.file.method not in COUNTED
            and len(self.places.regions) == 1
            and not any(map(conditional, self.file.scopes))
        ):
            return {self._meaning("", 0, 0.0, None): []}
        tensors = self._tensors(first)
        self.places.know(tensors)
        grouped: dict[str, list[str]] = {}
        for tensor, size in tensors.items():
            grouped.setdefault(self._meaning(tensor, *self.places.of(tensor), size), []).append(tensor)
        return {next(iter(grouped)): []} if len(grouped) == 1 else grouped

    def _tensors(self, source: MergeSource) -> dict[str, int]:
        """The names of the result's tensors, and their sizes, from the headers of a source's models."""
        with contextlib.ExitStack() as stack:
            opened = {
                key: stack.enter_context(open_source(key[1] or key[0]))
                for key in models_in(source.path, source.onto, source.stack)
            }
            found = stacked(opened, source.path, source.onto, source.stack, str(source.name))
            return {name: found.info(name).size for name in sorted(found)}

    def _meaning(self, tensor: str, number: int, depth: float, size: int | None) -> str:
        region, where = self.places.regions[number], self.file.where
        outer = (region.piece.parameters, region.module.parameters, self.file.parameters)

        def value(parameter: Parameter, scopes: Iterable[Parameters], place: str, name: str) -> Any:
            found = value_of(parameter.name, parameter.kind, scopes, name, depth, place)
            if found is None and parameter.needed:
                at_tensor = f" for tensor {tensor}" if tensor else ""
                elsewhere = [note for note in self.file.ignored if f": {parameter.name}: " in note]
                told = "; ".join([f"{self.file.method} needs it{at_tensor}", *elsewhere])
                raise MergeError(f"{place}: {parameter.name}: {told}")
            return parameter.default if found is None else found

        def own(each: Input | None) -> dict[str, Any]:
            if each is None:  # a slice with fewer models than others
                return {p.name: 0.0 if p.name == "weight" else p.default for p in of_models}
            name = inner_name(tensor, region, each)
            scopes, place = (each.parameters, *outer), f"{each.where.partition(': ')[0] or where}: {each.model}"
            return {p.name: value(p, scopes, place, name) for p in of_models}

        of_models = [p for p in self.method.parameters if p.scope != "shared"]
        shared = {
            p.name: value(p, outer, f"{self.file.at('parameters')}: parameters", tensor)
            for p in self.method.parameters
            if p.scope == "shared"
        }
        inputs = {name: slot.inputs[number] for name, slot in zip(self.called, self.slots, strict=True)}
        base = next((n for n, each in inputs.items() if each is not None and each.model == region.piece.base), None)
        values = Values(shared, {name: own(each) for name, each in inputs.items()}, base, self.note, size)
        try:
            meaning: Meaning = self.method.meaning(values)
        except MergeError as error:
            name = str(error).partition(":")[0]
            scopes = [each.parameters for each in inputs.values() if each is not None] + list(outer)
            scope = next((scope for scope in scopes if name in scope), None)
            raise MergeError(f"{at(where, scope, name)}: {error}") from error
        return json.dumps(vars(meaning), sort_keys=True)

    def _rules(self, grouped: Mapping[str, Sequence[str]], common: str) -> Iterable[MergeRule]:
        tensors = sorted(name for names in grouped.values() for name in names)
        filters = [text for scope in self.file.scopes for text in filters_in(scope)]
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
