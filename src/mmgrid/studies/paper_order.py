"""The order in which the paper ranks the paradigms, by quality (section 3.3) and by norm of task vectors (4.2).

A paradigm is compared with the next one below it that the grid has: if each is above the one below, the order holds.
"""

from collections.abc import Callable
from typing import Any

from mmgrid.studies.contract import StudyGrid, StudySpec

PAPER_ORDER = ("text", "semid", "semb")  # the lowest first


def below(
    spec: StudySpec, grid: StudyGrid, ask: Callable[[StudyGrid, str], Any]
) -> tuple[str, StudyGrid, dict[str, Any]] | None:
    """The next paradigm below that of `grid`, the grid as seen for it, and domain → what `ask` requests.

    Domains in which it has no such cell are left out; None if there is no such paradigm, or no domain.
    """
    place = PAPER_ORDER.index(grid.paradigm) if grid.paradigm in PAPER_ORDER else 0
    for name in reversed(PAPER_ORDER[:place]):
        other = grid.beside(name) if name in (spec.paradigms or PAPER_ORDER) else None
        if other is None:
            continue
        found = {}
        for domain in grid.domains:
            try:
                found[domain] = ask(other, domain)
            except ValueError:  # no checkpoint of this domain
                continue
        if found:
            return name, other, found
    return None
