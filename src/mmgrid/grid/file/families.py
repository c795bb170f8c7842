"""The keys of `[[families]]`: one shared model, and a small part for each domain or for each phase of a domain.

`part`, `towers` and `rules` are those of a recipe of `mmgrid merge --family`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from mmgrid.frozen import Frozen, Names, SeveralNames
from mmgrid.grid.file.merges import BACKBONE, PHASES, RESERVED
from mmgrid.grid.file.names import folder_name, not_in_grid

if TYPE_CHECKING:
    from mmgrid.families.parts import PartChoice

_OF_THE_SHARED = ("mask", "low_rank")  # changes of the shared model, and so of no checkpoint before


class Family(Frozen):
    """One family; each of its domains is evaluated as the family stores it."""

    name: str = Field(min_length=1, description="its name in cells and results")
    sources: Names | None = Field(default=None, description="default: every domain")
    shared: str | None = Field(default=None, description="a merge or the backbone; default: the average of the sources")
    chain: SeveralNames | None = Field(default=None, description="phases, each a change of the last")
    part: JsonValue = "delta"
    towers: dict[str, JsonValue] = Field(default_factory=dict)
    rules: tuple[JsonValue, ...] = ()
    evaluate_on: Names | None = None
    paradigms: Names | None = None

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        folder_name(name)
        if name in RESERVED:
            raise ValueError(f"{name!r} has another meaning in a grid; choose another name")
        return name

    @field_validator("chain")
    @classmethod
    def _runs_through_time(cls, chain: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if unknown := [name for name in chain or () if name not in PHASES]:
            raise ValueError(f"{', '.join(unknown)} is no phase; write {', '.join(PHASES)}")
        if chain and list(chain) != sorted(chain, key=PHASES.index):
            raise ValueError(
                f"must run from the oldest to the newest phase: {', '.join(sorted(chain, key=PHASES.index))}"
            )
        return chain

    @model_validator(mode="after")
    def _parts_fit(self) -> "Family":
        kinds = {part.kind for part in self.parts.all}
        if self.chain and self.shared is not None:
            raise ValueError(f"shared: a chain starts from {self.chain[0]}, which is its shared model; remove this key")
        if self.chain and (bound := [kind for kind in _OF_THE_SHARED if kind in kinds]):
            raise ValueError(
                f"a chain has no part {bound[0]}, which is a change of the shared model and not of the phase before; choose "
                "delta, exact, own or shared"
            )
        if self.shared == BACKBONE and "mask" in kinds:
            raise ValueError(
                "shared: masks choose from what the shared model has learned, and the backbone has learned nothing; share a "
                'merge, such as one with method = "emr"'
            )
        return self

    @property
    def parts(self) -> "PartChoice":
        """Which part each tensor gets, with all defaults.

        Raises:
            ValueError: there is no such kind or option; the message begins with the key.
        """
        from mmgrid.families.parts import PartChoice  # imported late: most grids have no families
        from mmgrid.families.recipe import described

        try:
            return PartChoice.model_validate({"part": self.part, "towers": self.towers, "rules": self.rules})
        except ValidationError as error:
            raise ValueError(described(error, "", PartChoice)) from None

    def members(self, domains: Sequence[str]) -> list[str]:
        """The domains whose checkpoints the family stores. domains: of the grid."""
        return [domain for domain in domains if domain in (self.sources or domains)]

    def served(self, domains: Sequence[str]) -> list[str]:
        """The domains that it is evaluated on. domains: of the grid."""
        return [domain for domain in self.members(domains) if domain in (self.evaluate_on or domains)]


def problems(
    families: Sequence[Family], merges: Mapping[str, int], domains: Sequence[str], paradigms: Collection[str]
) -> Iterator[tuple[int, str, str]]:
    """Number, key and problem, for each name in `[[families]]` that the grid does not have, or has already.

    Args:
        merges: name → number of its entry of `[[merges]]`.
    """
    taken: dict[str, str] = {name: f"merges[{number}]" for name, number in merges.items()}
    for number, family in enumerate(families):
        if family.name in domains:
            yield number, "name", f"{family.name} is a domain; choose another name"
        if family.name in taken:
            yield number, "name", f"{taken[family.name]} has the same name; choose another one"
        taken[family.name] = f"families[{number}]"
        yield from ((number, key, problem) for key, problem in _names(family, merges, domains, paradigms))


def _names(
    family: Family, merges: Mapping[str, int], domains: Sequence[str], paradigms: Collection[str]
) -> Iterator[tuple[str, str]]:
    for key, known in (("sources", domains), ("evaluate_on", domains), ("paradigms", paradigms)):
        given: Any = getattr(family, key) or ()
        if unknown := [name for name in given if name not in known]:
            yield key, not_in_grid(unknown, known)
    members = family.members(domains)
    if outside := [domain for domain in family.evaluate_on or () if domain in domains and domain not in members]:
        yield "evaluate_on", f"{', '.join(outside)} has no part in this family; its sources are {', '.join(members)}"
    if family.shared not in (None, BACKBONE, *merges):
        named = ", ".join([BACKBONE, *merges])
        yield (
            "shared",
            f"{family.shared} is no model to share; write {named}, or nothing for the average of the sources",
        )
