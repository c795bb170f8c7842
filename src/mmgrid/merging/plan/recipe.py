"""A recipe: everything that determines the bytes of a merge, and nothing else.

A recipe is a dict, or a YAML or JSON file. A source without a name is named by the digest of its weights, so that the
result depends only on the contents of the sources and not on their paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator

from mmgrid.files import on_hub
from mmgrid.files.bounded_yaml import BoundedLoader
from mmgrid.frozen import Frozen
from mmgrid.merging.errors import MergeError, nearest, problem_of
from mmgrid.merging.methods import METHODS
from mmgrid.merging.models.chat_formats import chat_template
from mmgrid.merging.models.file_kinds import impostor
from mmgrid.merging.plan.block_layout import BlockRule, KeepAllOf
from mmgrid.merging.plan.vocabulary import TokenRow, VocabularyChoice
from mmgrid.patterns import Pattern, Patterns, fits, listed

Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Finite | tuple[Finite, ...]
BASE_FILES = "base"
OutputType = Literal["source", "float32", "bfloat16", "float16"]


class Layers(Frozen):
    """Layers of a model, as a part of a stack.

    Attributes:
        layers: the first layer, and the one after the last; counted from 0.
        path, onto: the model, as in `MergeSource`. Default: that of the source.
        of: the name before the layers' numbers, such as `item_tower.layers`, for models with several such names.
    """

    layers: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    path: Path | None = None
    onto: Path | None = None
    of: str | None = None


Stack = tuple[Layers, ...]


class MergeSource(Frozen):
    """One model to merge.

    Attributes:
        path: its folder, a safetensors file, or a name on the Hub (`ORG/NAME[@REVISION]`); an existing path wins.
        name: its name; sums run in the order of the names. Default: the digest of its weights.
        weight: its weight wᵢ. Default: 1, or the weight of the method's preset.
        onto: for a LoRA adapter: the model that it is merged into. Default: the folder that its own configuration names
            if it exists, else the recipe's base, else the name on the Hub in its configuration.
        stack: layers of this model and of others, in the order that they have in the result; they are renumbered.
            Embeddings come from the first of them, other tensors outside of layers from the last. Default: all layers.
        statistics: a safetensors file of what was measured of the model, for the methods that take that.
    """

    path: Path
    name: str | None = Field(default=None, min_length=1)
    weight: Finite | None = None
    onto: Path | None = None
    stack: Stack = ()
    statistics: Path | None = None


class MergeRule(Frozen):
    """Other settings for some of the tensors: a tower, a layer, an embedding. Omitted settings are the recipe's.

    Attributes:
        tensors: a pattern of tensor names, such as `item_tower.*`, or several patterns.
        method, options, scale, base: as in the recipe; the options are those of the rule's method.
        weights: name of a source → its weight for these tensors.
    """

    tensors: Patterns
    method: str | None = None
    options: dict[str, JsonValue] | None = None
    scale: Scale | None = None
    base: Path | None = None
    weights: dict[str, Finite] | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        return listed(self.tensors)

    def fits(self, tensor: str) -> bool:
        return fits(tensor, self.patterns)


class MergeRecipe(Frozen):
    """What to merge and how.

    Attributes:
        method: a name in `METHODS`.
        sources: at least one; their order does not change merged values.
        base: θ₀, for methods of task vectors.
        base_onto: for a base that is a LoRA adapter: the model that it is merged into; as `onto` of a source.
        base_stack: layers of the base, as `stack` of a source.
        scale: λ, the factor on the delta; a list is spread evenly over the depth of the layers.
        seed: for methods that draw random numbers.
        dtype: type of the floating-point tensors of the result; "source": for each tensor the widest type among the
            sources, at most float32.
        options: the method's options.
        rules: other settings for some of the tensors; the first rule that fits a tensor counts.
        blocks: name of a token block, or pattern → merge, keep, keep_all, append or drop; see `lay_out`.
        companions: the source (by name, or "base") whose config and tokenizer are copied. Default: the first source.
        vocabulary: "base", "union" or a source's name: token rows are arranged by the tokens of this vocabulary; see
            `VocabularyChoice` for more.
        chat_template: the chat template of the result's tokenizer: in Jinja, or the name of a format (`chatml`, `llama3`,
            `mistral`, `alpaca`, `exaone`). Default: that of the companions.
        allow_config_mismatch: merge models whose configs differ in settings that change what the same weights compute.
    """

    method: str
    sources: tuple[MergeSource, ...] = Field(min_length=1)
    base: Path | None = None
    base_onto: Path | None = None
    base_stack: Stack = ()
    scale: Scale = 1.0
    seed: int = Field(default=0, ge=0)
    dtype: OutputType = "source"
    options: dict[str, JsonValue] = {}
    rules: tuple[MergeRule, ...] = ()
    blocks: dict[Pattern, BlockRule] = {}
    companions: str | None = None
    allow_config_mismatch: bool = False
    vocabulary: VocabularyChoice | None = None
    chat_template: str | None = None

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[MergeSource, ...]) -> tuple[MergeSource, ...]:
        counts = Counter(source.name for source in sources if source.name is not None)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"two sources are called {name!r}; give each its own name")
        return sources

    def rule_of(self, tensor: str) -> int | None:
        """The number of the rule that counts for a tensor; None if none does."""
        return next((number for number, rule in enumerate(self.rules) if rule.fits(tensor)), None)

    @field_validator("chat_template")
    @classmethod
    def _is_template(cls, text: str | None) -> str | None:
        if text is not None:
            chat_template(text)  # raises for a name that is not known
        return text

    @classmethod
    def load(cls, recipe: MergeRecipe | Mapping[str, Any] | str | Path) -> MergeRecipe:
        """A recipe from a dict (paths relative to the working folder) or a YAML or JSON file (relative to that file).

        The `mmgrid.json` of a merge is such a file.

        Raises:
            MergeError: it is not a recipe; the message names the wrong key and the most similar right one.
        """
        if isinstance(recipe, MergeRecipe):
            return recipe
        if isinstance(recipe, Mapping):
            return cls._checked(recipe, "recipe")
        path = Path(recipe)
        value = read_yaml(path)
        if not isinstance(value, Mapping):
            raise MergeError(f"{path}: {impostor(path) or 'is not a recipe: it must hold method, sources, …'}")
        if "recipe" in value and "format" in value:  # a merge's mmgrid.json: paths begin at the parent of its folder
            return cls._checked(value["recipe"], f"{path}: recipe").anchored(path.absolute().parent.parent, pinned=True)
        if "merge_method" in value:
            raise MergeError(f"{path}: is a recipe of mergekit; read it with --mergekit")
        return cls._checked(value, str(path)).anchored(path.absolute().parent)

    def anchored(self, folder: Path | None = None, *, pinned: bool = False) -> MergeRecipe:
        """The recipe with absolute paths; relative paths are resolved from `folder`, by default the working folder.

        Names on the Hub stay as they are; with `pinned`, as in a record, only those with a commit are such names.
        """
        folder = folder or Path.cwd()
        return self.with_paths(lambda path: path if on_hub(path, folder, pinned=pinned) else folder / path)

    def with_paths(self, change: Callable[[Path], Path]) -> MergeRecipe:
        """The recipe with all its paths changed."""
        sources = tuple(
            source.model_copy(
                update={
                    "path": change(source.path),
                    "onto": None if source.onto is None else change(source.onto),
                    "stack": _with_paths(source.stack, change),
                    "statistics": None if source.statistics is None else change(source.statistics),
                }
            )
            for source in self.sources
        )
        below = _with_paths(self.base_stack, change)
        base, under = (None if path is None else change(path) for path in (self.base, self.base_onto))
        rules = tuple(
            rule if rule.base is None else rule.model_copy(update={"base": change(rule.base)}) for rule in self.rules
        )
        return self.model_copy(
            update={"sources": sources, "base": base, "base_onto": under, "base_stack": below, "rules": rules}
        )

    @property
    def paths(self) -> list[Path]:
        """All paths that the recipe names."""
        found: list[Path] = []

        def seen(path: Path) -> Path:
            found.append(path)
            return path

        self.with_paths(seen)
        return found

    @property
    def weights(self) -> dict[str, float]:
        """Name of a source → its weight, for sources that have one."""
        return {str(source.name): source.weight for source in self.sources if source.weight is not None}

    def with_weights(self, weights: Mapping[str, float]) -> MergeRecipe:
        """The recipe with these weights of all its sources, which have names."""
        sources = (source.model_copy(update={"weight": weights[str(source.name)]}) for source in self.sources)
        return self.model_copy(update={"sources": tuple(sources)})

    def renamed(self, names: Mapping[str, str]) -> MergeRecipe:
        """The recipe with other names of sources, wherever it refers to one."""

        def options(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
            return {
                key: {names.get(name, name): own for name, own in value.items()} if isinstance(value, dict) else value
                for key, value in given.items()
            }

        def changed(rule: MergeRule) -> MergeRule:
            weights = None if rule.weights is None else {names.get(n, n): w for n, w in rule.weights.items()}
            own = None if rule.options is None else options(rule.options)
            return rule.model_copy(update={"weights": weights, "options": own})

        rules = tuple(map(changed, self.rules))
        companions = None if self.companions is None else names.get(self.companions, self.companions)
        blocks = {
            pattern: rule
            if isinstance(rule, str)
            else KeepAllOf(keep_all=tuple(names.get(name, name) for name in rule.keep_all))
            for pattern, rule in self.blocks.items()
        }
        own = {"options": options(self.options), "rules": rules, "companions": companions, "blocks": blocks}
        return self.model_copy(update=own)

    @classmethod
    def _checked(cls, value: Any, where: str) -> MergeRecipe:
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            found = error.errors()
            first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
        loc = first["loc"] if first["loc"][:1] != ("blocks",) else (*first["loc"][:2], *first["loc"][3:])  # no tag
        place = ".".join(str(part) for part in loc)
        if first["type"] == "extra_forbidden":
            *above, key = map(str, loc)
            inner = {
                "sources": MergeSource,
                "rules": MergeRule,
                "vocabulary": VocabularyChoice,
                "base_stack": Layers,
                "blocks": KeepAllOf,
            }
            nested = {"tokens": TokenRow, "stack": Layers}
            owner = next((nested[part] for part in above if part in nested), inner.get(above[0] if above else "", cls))
            fields = owner.model_fields
            hint = _belongs(key, owner) or nearest(key, fields)
            raise MergeError(f"{where}: {place}: unknown key{hint} (known: {', '.join(fields)})")
        raise MergeError(f"{where}: {place + ': ' if place else ''}{problem_of(first)}")


def _with_paths(stack: Stack, change: Callable[[Path], Path]) -> Stack:
    return tuple(
        part.model_copy(
            update={
                "path": None if part.path is None else change(part.path),
                "onto": None if part.onto is None else change(part.onto),
            }
        )
        for part in stack
    )


# What mergekit calls the keys of a recipe.
_OF_MERGEKIT = {"models": "sources", "base_model": "base", "parameters": "options", "lambda": "scale"}


def _belongs(key: str, owner: type[Frozen]) -> str:
    """Where a key of another place belongs, for errors; empty if no place has it."""
    options = {name for method in METHODS.working().values() for name in method.options.model_fields}
    option = next((one for one in (key, key.replace("ize", "ise")) if one in options), None)
    if option is not None and owner is MergeSource:
        return f"; an option of a method stands under options, for one source as `{option}: {{NAME: …}}`"
    if option is not None:
        return f"; it is an option of a method, which stands under options: {option}"
    if key in _OF_MERGEKIT and owner is MergeRecipe:
        return f"; a recipe has {_OF_MERGEKIT[key]} (a mergekit file is read with --mergekit)"
    return ""


class _EachKeyOnce(BoundedLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    text = f"{key.value} is given more than once"
                    raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a YAML (or JSON) file of plain values.

    Raises:
        MergeError: the file is missing, is not YAML, or gives a key twice; the message names the line.
    """
    try:
        return yaml.load(path.read_bytes(), _EachKeyOnce)
    except FileNotFoundError:
        raise MergeError(f"{path}: does not exist") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = impostor(path) or f"is not YAML ({' '.join(str(error).split())})"
        raise MergeError(f"{path}: {problem}") from error
