"""A cell: one thing that a grid builds, with its kind, readable key, recipe and upstream cells."""

from collections.abc import Iterable, Mapping
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
    "family": 1,
    "learned": 1,
    "merge": 2,  # record of the streaming engine
    "evaluation": 1,
    "vectors": 1,
    "codes": 1,
    "study": 1,
}
"""Kind of cell → version of the code that builds it. Raise it when the same recipe gives a different result. Paradigms
and studies declare their own versions, which replace it."""


@dataclass(frozen=True)
class Cell:
    """One thing to build, with everything that determines its content.

    Attributes:
        kind: what it is, such as `checkpoint`.
        key: which one, such as paradigm, domain and phase.
        recipe: resolved values that JSON can represent.
        upstream: role → cell that it is built from.
        family: cells of one family, such as the points of a sweep, share most of their work; a process that builds
            several of them does it once. Not part of the fingerprint.
        version: of the code that builds it; 0 takes that of its kind.
        temporary: a run removes it as soon as no missing cell is built from it. Not part of the fingerprint.
        needs: for a study, its upstream cells as a structured value (see `mmgrid.studies.Study.needs`). Not part of the
            fingerprint, since `upstream` has the same cells.
        processes: how many train it together, each on a GPU or a core of its own. Not part of the fingerprint.
        sharded: whether each of them holds its share of the weights only. Not part of the fingerprint.
    """

    kind: str
    key: tuple[str, ...]
    recipe: Mapping[str, Any]
    upstream: Mapping[str, "Cell"] = field(default_factory=dict)
    family: str = ""
    version: int = 0
    temporary: bool = False
    needs: Any = None
    processes: int = 1
    sharded: bool = False

    @property
    def name(self) -> str:
        """The name in commands, such as `checkpoint/semb/books/phase1`."""
        return "/".join((self.kind, *self.key))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that determines the content."""
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
        if self is other:
            return True
        if not isinstance(other, Cell):
            return False
        return self.fingerprint == other.fingerprint and (self.kind, self.key) == (other.kind, other.key)


def with_upstream(cells: Iterable[Cell]) -> list[Cell]:
    """`cells` and everything upstream of them, each once; upstream cells come first."""
    found: dict[Cell, None] = {}
    visited: set[int] = set()  # ids: most cells are met again as the same object, and a cell's own hash takes longer

    def visit(cell: Cell) -> None:
        visited.add(id(cell))
        for upstream in cell.upstream.values():
            if id(upstream) not in visited:
                visit(upstream)
        found.setdefault(cell)

    cells = [*cells]  # while all are held, no two have one id
    for cell in cells:
        if id(cell) not in visited:
            visit(cell)
    return [*found]
