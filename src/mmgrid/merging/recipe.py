"""A merge as a value: everything that determines the result's bytes, and nothing else.

The shape is mergekit's where the meaning is the same. A recipe is a dict or a JSON file; a source without a
name is called by the digest of its weights, so that a recipe's result depends on contents and never on where
they lie.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from mmgrid.merging.errors import MergeError, nearest

Finite = Annotated[float, Field(allow_inf_nan=False)]
OutputType = Literal["source", "float32", "bfloat16", "float16"]


class MergeSource(BaseModel):
    """One model to merge.

    Attributes:
        path: its folder, or a safetensors file.
        name: what it is called; sums run in the order of names. Default: the digest of its weights.
        weight: its share wᵢ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    name: str | None = Field(default=None, min_length=1)
    weight: Finite = 1.0


class MergeRecipe(BaseModel):
    """What to merge and how.

    Attributes:
        method: a name in `METHODS`.
        sources: at least one; their order changes no weight. Config and tokenizer come from the first.
        base: θ₀, for methods of task vectors.
        scale: λ, the factor on the delta.
        seed: for methods that draw.
        dtype: type of the floating-point tensors of the result; "source": the widest one that a tensor has
            among the sources, float32 at most.
        options: the method's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    sources: tuple[MergeSource, ...] = Field(min_length=1)
    base: Path | None = None
    scale: Finite = 1.0
    seed: int = Field(default=0, ge=0)
    dtype: OutputType = "source"
    options: dict[str, JsonValue] = {}

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[MergeSource, ...]) -> tuple[MergeSource, ...]:
        counts = Counter(source.name for source in sources if source.name is not None)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"two sources are called {name!r}; give each a name of its own")
        return sources

    @classmethod
    def load(cls, recipe: MergeRecipe | Mapping[str, Any] | str | Path) -> MergeRecipe:
        """A recipe from a dict (paths relative to the working folder) or a JSON file (relative to that file).

        Raises:
            MergeError: it is not a recipe; names the key and the nearest right one.
        """
        if isinstance(recipe, MergeRecipe):
            return recipe
        if isinstance(recipe, Mapping):
            return cls._checked(recipe, "recipe")
        path = Path(recipe)
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise MergeError(f"{path}: is not there") from None
        except (ValueError, RecursionError) as error:
            yaml = path.suffix in (".yml", ".yaml")
            hint = "; YAML is not read here: write the same keys as JSON" if yaml else ""
            raise MergeError(f"{path}: is not JSON ({error}){hint}") from error
        return cls._checked(value, str(path)).anchored(path.absolute().parent)

    def anchored(self, folder: Path | None = None) -> MergeRecipe:
        """The recipe with absolute paths; relative ones start at `folder`, by default the working folder."""
        folder = folder or Path.cwd()
        sources = tuple(source.model_copy(update={"path": folder / source.path}) for source in self.sources)
        base = None if self.base is None else folder / self.base
        return self.model_copy(update={"sources": sources, "base": base})

    @classmethod
    def _checked(cls, value: Any, where: str) -> MergeRecipe:
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            fields = cls.model_fields if len(first["loc"]) == 1 else MergeSource.model_fields
            hint = nearest(str(first["loc"][-1]), fields)
            raise MergeError(f"{where}: {place}: unknown key{hint} (known: {', '.join(fields)})")
        raise MergeError(f"{where}: {place + ': ' if place else ''}{first['msg']}")
