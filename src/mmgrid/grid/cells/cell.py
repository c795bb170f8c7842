"""One thing that a grid builds: its kind, its readable key, its recipe, and the cells it is built from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmgrid.grid.cells.fingerprint import fingerprint
from mmgrid.store import Address

# What a person raises when the code of a kind of cell changes what it makes of the same recipe.  A kind may have
# an entry for a part of its cells, by the first word of their keys.
STEP_VERSIONS = {
    "corpus": 1,
    "backbone": 1,
    "base": 1,
    "checkpoint": 1,
    "checkpoint/semb": 2,  # a user's own items are no negatives of the batch
    "merge": 2,  # record of the streaming engine
    "evaluation": 1,
    "evaluation/semb": 2,  # users are encoded in the order of their lengths: scores differ in the last digits
    "evaluation/text": 2,  # of titles that were told verbatim the likelier comes first
    "evaluation/semid": 2,  # rows of a shared codebook are kept in every kind of merge
    "vectors": 1,
    "codes": 1,
    "study": 1,
    "study/advise": 3,  # no percentage of nothing; p below what draws can tell
    "study/base_model": 3,  # a domain's resamples are the same in all pairs; no percentage of nothing; p as above
    "study/baselines": 2,  # p as above
    "study/cross_domain": 2,  # p as above
    "study/temporal": 3,  # a rough λ* is not taken for one that varies; p as above
}


@dataclass(frozen=True)
class Cell:
    """`recipe` holds resolved, JSON-able values only; `upstream` names the cells it is built from by their role.

    Cells of one `family` have most of their work in common, such as the points of a sweep: a process that builds
    several of them does it once.  It is no part of their identity.
    """

    kind: str
    key: tuple[str, ...]
    recipe: Mapping[str, Any]
    upstream: Mapping[str, "Cell"] = field(default_factory=dict)
    family: str = ""

    @property
    def name(self) -> str:
        """What `--only` and `why` take, for example `checkpoint/semb/books/phase1`."""
        return "/".join((self.kind, *self.key))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines the cell's content."""
        return fingerprint(
            {
                "kind": self.kind,
                "step_version": STEP_VERSIONS.get(f"{self.kind}/{self.key[0]}", STEP_VERSIONS[self.kind]),
                "recipe": self.recipe,
                "upstream": {role: cell.fingerprint for role, cell in self.upstream.items()},
            }
        )

    @cached_property
    def address(self) -> Address:
        return Address(self.kind, self.key, self.fingerprint)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.address == other.address


def with_upstream(cells: Iterable[Cell]) -> list[Cell]:
    """`cells` and all they are built from, each once, what is built first coming first."""
    found: dict[Cell, None] = {}

    def visit(cell: Cell) -> Iterator[Cell]:
        if cell not in found:
            for upstream in cell.upstream.values():
                yield from visit(upstream)
            found.setdefault(cell)
            yield cell

    return [cell for start in cells for cell in visit(start)]
