"""The recipe of a family: that of a merge, which makes the shared model, with a section `family`.

base: backbone
method: linear
sources:
  - {name: books, path: books-model}
  - {name: games, path: games-model}
family:
  part: {kind: delta, bits: 4}
  towers: {item: own}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from mmgrid.families.parts import KINDS, PartChoice, PartRule
from mmgrid.files import on_hub, safe_segment, short_name_of
from mmgrid.merging.errors import MergeError, nearest, problem_of, wrong_values
from mmgrid.merging.models.declaration import read_declaration
from mmgrid.merging.models.hub import found
from mmgrid.merging.plan.recipe import MergeRecipe, read_yaml

_SECTION = "family"
MERGE, BASE = "merge", "base"  # what is shared, unless it is a folder


class FamilySpec(PartChoice):
    """The section `family`.

    Attributes:
        shared: "merge", the merge of the sources by the recipe's method; "base", the base itself; or the folder of another
            model.
        chain: the sources are one checkpoint after the other: the first is stored as it is, and each later one as a
            change of the one before.
        copy_base: put a copy of the base into the family, where it needs one (as the shared model, or under masks).
            Otherwise the base is read from where it lies.
    """

    shared: str = Field(default=MERGE, min_length=1)
    chain: bool = False
    copy_base: bool = True


class FamilyRecipe:
    """A family's recipe: its sources, base and shared model as a `MergeRecipe`, and the section `family`.

    Attributes:
        merge: the sources have names, which are those of the domains.
        spec: the section `family`.
        shared_path: the folder of the shared model, or its name on the Hub, if it is there already.
    """

    def __init__(self, merge: MergeRecipe, spec: FamilySpec, shared_path: Path | None = None) -> None:
        self.merge, self.spec, self.shared_path = merge, spec, shared_path

    @classmethod
    def load(cls, recipe: FamilyRecipe | Mapping[str, Any] | str | Path) -> FamilyRecipe:
        """A recipe from a dict (paths relative to the working folder) or a YAML or JSON file (relative to that file).

        Raises:
            MergeError: it is no such recipe; the message names the wrong key.
        """
        if isinstance(recipe, FamilyRecipe):
            return recipe
        where, folder, value = "recipe", Path.cwd(), recipe
        if not isinstance(recipe, Mapping):
            where, folder = str(recipe), Path(recipe).absolute().parent
            value = read_yaml(Path(recipe))
        if not isinstance(value, Mapping):
            raise MergeError(f"{where}: is not a recipe: it must hold sources, family, …")
        rest = dict(value)
        spec = _spec(rest.pop(_SECTION, {}), where, "method" in rest)
        if spec.chain and rest.keys() & {"method", "base"}:
            raise MergeError(f"{where}: a chain has neither method nor base: its first source is the shared model")
        given = spec.shared not in (MERGE, BASE)
        if given and (spec.chain or "method" in rest):
            shares = "its first source" if spec.chain else "what the method makes"
            raise MergeError(
                f"{where}: {_SECTION}.shared: {spec.shared} cannot be shared beside {shares}; leave one out"
            )
        if spec.shared == BASE and rest.get("base") is None and not spec.chain:
            raise MergeError(f"{where}: names no method, so the base is the shared model; name it (base: FOLDER)")
        bound = sorted({part.kind for part in spec.all} & {"mask", "low_rank"})
        if spec.chain and bound:
            raise MergeError(
                f"{where}: a chain has no part {bound[0]}, which is a change of the shared model and not of the checkpoint "
                "before; choose delta, exact, own or shared"
            )
        if spec.masks and spec.shared == BASE:
            raise MergeError(
                f"{where}: masks choose from a shared change, and the base has none: name a method, e.g. emr"
            )
        if spec.masks and rest.get("base") is None:
            raise MergeError(f"{where}: masks need a base, the model that the sources were trained from (base: FOLDER)")
        merge = MergeRecipe.load({"method": "linear", **rest}).anchored(folder)
        path = Path(spec.shared).expanduser() if given else None
        if path is not None and not on_hub(path, folder):
            path = folder / path
            if not path.is_dir():
                raise MergeError(
                    f"{where}: {_SECTION}.shared: no folder {path}; write {MERGE}, {BASE}, or a model's folder"
                )
        return cls(_named(merge, where, chain=spec.chain), spec, path)

    @property
    def domains(self) -> dict[str, Path]:
        """Name of a domain → the folder of its checkpoint."""
        return {str(source.name): source.path for source in self.merge.sources}


def _spec(value: Any, where: str, has_method: bool) -> FamilySpec:
    if not isinstance(value, Mapping):
        raise MergeError(f"{where}: {_SECTION}: must hold part, towers, rules, …")
    try:
        return FamilySpec.model_validate({"shared": MERGE if has_method else BASE, **value})
    except ValidationError as error:
        raise MergeError(f"{where}: {described(error, _SECTION, FamilySpec)}") from error


def described(error: ValidationError, section: str, choice: type[PartChoice]) -> str:
    """One line for the first mistake in a choice of parts: its place, and what to write. section: may be empty."""
    found = wrong_values(error.errors())
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])  # what is missing is misspelt
    *above, last = first["loc"]
    owner = next(
        (KINDS[part] for part in reversed(above) if part in KINDS), PartRule if above[:1] == ["rules"] else choice
    )
    place = section
    for part in [*(part for part in above if part not in KINDS), last]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    place = place.removeprefix(".")
    if first["type"] == "extra_forbidden":
        known = owner.model_fields
        return f"{place}: unknown key{nearest(str(last), known)} (known: {', '.join(known)})"
    if first["type"].startswith("union_tag") or first["type"] == "model_attributes_type":
        got = (first.get("ctx") or {}).get("tag") or (None if isinstance(first["input"], Mapping) else first["input"])
        hint = nearest(str(got), KINDS) if got else ""
        return f"{place}: must name a kind of part{f', not {got!r}' if got else ''}{hint} (known: {', '.join(KINDS)})"
    return f"{place}: {problem_of(first)}"


def _named(merge: MergeRecipe, where: str, *, chain: bool) -> MergeRecipe:
    """The recipe with a name for every source: its own, that of the domain (or phase) it declares, or of its folder."""
    sources = tuple(
        source.model_copy(update={"name": source.name or declared_name(source.path, "phase" if chain else "domain")})
        for source in merge.sources
    )
    names = [str(source.name) for source in sources]
    for name, count in Counter(names).items():
        if count > 1:
            raise MergeError(f"{where}: sources: two are called {name!r}; give each its own name")
        try:
            fits = safe_segment(name) == name
        except ValueError as error:
            raise MergeError(f"{where}: sources: {error}") from error
        if not fits:
            raise MergeError(f"{where}: sources: {name!r} cannot name a folder; call it {safe_segment(name)!r}")
    return merge.model_copy(update={"sources": sources})


def declared_name(path: Path, key: str) -> str:
    """What a checkpoint declares of itself under a key, such as `domain`; else the name of its folder."""
    folder = found(path)
    told = (read_declaration(folder) or {}).get(key) if folder.is_dir() else None
    return told if isinstance(told, str) and told else short_name_of(path)
