"""`[[variants]]`: other ways to train the newest phase, beside the grid's own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from mmgrid.frozen import Frozen, Names
from mmgrid.grid.file.names import FolderName, instead, not_in_grid


class Variant(Frozen):
    """Models of the newest phase that are trained in another way: what a merge over time competes with."""

    name: FolderName = Field(description="of the models, in the names of their cells and in results")
    start: Literal["before", "newest"] = Field(
        default="before",
        description="the checkpoint to start from: that of the phase before, or the newest, which is trained further",
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="values of the recipe, such as `{ epochs = 1 }` or `{ rehearsal = 0.5 }`"
    )
    domains: Names | None = Field(default=None, description="default: all")
    paradigms: Names | None = Field(default=None, description="default: all that the grid trains")

    def chosen(self, trained: Collection[str]) -> tuple[str, ...]:
        """Its paradigms, of those that the grid trains."""
        return self.paradigms or tuple(trained)


def variant_problems(
    variants: Sequence[Variant], domains: Sequence[str], recipes: Mapping[str, Collection[str]], taken: Collection[str]
) -> Iterator[tuple[int, str, str]]:
    """What does not fit the rest of the grid: number of the entry, `.key`, problem.

    Args:
        recipes: paradigm that the grid trains → the values of its recipe.
        taken: names of other models.
    """
    names = [*taken, *(one.name for one in variants)]
    for number, one in enumerate(variants):
        for key, given, known in (("domains", one.domains, domains), ("paradigms", one.paradigms, recipes)):
            if unknown := sorted(set(given or ()) - set(known)):
                yield number, f".{key}", not_in_grid(unknown, known)
        if names.count(one.name) > 1:
            yield number, ".name", f"{one.name} is taken; each variant needs its own name"
        for paradigm in one.chosen(recipes):
            if unknown := sorted(set(one.set) - set(recipes.get(paradigm, one.set))):
                near = instead(unknown, recipes[paradigm])
                remedy = near if near.endswith("?") else "name the `paradigms` that have it"
                yield number, ".set", f"{', '.join(unknown)} is no value of {paradigm}; {remedy}"
        if not one.set and one.start == "before":
            yield number, "", 'is the grid\'s own training; set a value, or `start = "newest"`'
