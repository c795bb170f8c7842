"""One thing that a grid builds: its kind, its readable key, its recipe, and the cells it is built from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmgrid.grid.cells.fingerprint import fingerprint
from mmgrid.store import Address

STEP_VERSIONS = {
    "corpus": 1,
    "backbone": 1,
    "base": 1,
    "checkpoint": 1,
    "merge": 2,  # record of the streaming engine
    "evaluation": 1,
    "vectors": 1,
    "codes": 1,
    "study": 1,
}
"""By kind of cell. A person raises it when the code makes something else of the same recipe. Paradigms and studies
declare versions of their own, which take its place."""


@dataclass(frozen=True)
class Cell:
    """One thing to build, with all that determines its content.

    Attributes:
        kind, key: what it is, and which one.
        recipe: resolved, JSON-able values only.
        upstream: the cells it is built from, by their role.
        family: cells of one family share most of their work, such as the points of a sweep: a process that builds
            several of them does it once. Not part of the identity.
        version: of the code that builds it; 0 takes that of its kind.
        needs: of a study, its upstream cells as a structured value (see `mmgrid.studies.Study.needs`). Not part of the
            identity: `upstream` has the same cells.
    """

    kind: str
    key: tuple[str, ...]
    recipe: Mapping[str, Any]
    upstream: Mapping[str, "Cell"] = field(default_factory=dict)
    family: str = ""
    version: int = 0
    needs: Any = None

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
                "step_version": self.version or STEP_VERSIONS[self.kind],
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
