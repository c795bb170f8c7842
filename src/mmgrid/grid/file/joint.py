"""`[[joint]]`: one model for several domains, trained on the users of all of them."""

from collections.abc import Collection, Iterator, Sequence

from pydantic import Field, field_validator

from mmgrid.frozen import Frozen, Names, SeveralNames
from mmgrid.grid.file.names import FolderName, not_in_grid
from mmgrid.paradigms import PARADIGMS


class JointTraining(Frozen):
    """A model that is trained on several domains at once, and evaluated on each: what a merge competes with."""

    name: FolderName = Field(description="of the joint domain, in the names of its cells")
    domains: SeveralNames
    paradigms: Names | None = Field(
        default=None, description="default: those of the grid whose models recommend from any catalogue"
    )

    @field_validator("paradigms")
    @classmethod
    def _for_any_catalogue(cls, paradigms: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in paradigms or ():
            if name in PARADIGMS and not PARADIGMS[name].any_catalogue:
                raise ValueError(
                    f"a model of {name} knows the items of its own catalogue only, so it cannot be asked about a single "
                    f"domain; possible are {', '.join(one for one in PARADIGMS if PARADIGMS[one].any_catalogue)}"
                )
        return paradigms

    def chosen(self, trained: Collection[str]) -> tuple[str, ...]:
        """Its paradigms, of those that the grid trains."""
        return self.paradigms or tuple(name for name in trained if PARADIGMS[name].any_catalogue)


def joint_problems(
    joint: Sequence[JointTraining], domains: Sequence[str], paradigms: Collection[str]
) -> Iterator[tuple[int, str, str]]:
    """What does not fit the rest of the grid: number of the entry, `.key`, problem."""
    names = [*domains, *(one.name for one in joint)]
    for number, one in enumerate(joint):
        for key, given, known in (("domains", one.domains, domains), ("paradigms", one.paradigms or (), paradigms)):
            if unknown := sorted(set(given) - set(known)):
                yield number, f".{key}", not_in_grid(unknown, known)
        if names.count(one.name) > 1:
            yield number, ".name", f"{one.name} is taken; each joint training needs its own name"
        if not one.chosen(paradigms):
            yield number, "", "the grid trains no paradigm whose models recommend from any catalogue"
