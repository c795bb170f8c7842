"""Explains why a cell must be built again: compares its recipe with that of the newest version in the store."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import plain
from mmgrid.grid.cells.stored import EXACT
from mmgrid.grid.file.spec import GridSpec
from mmgrid.grid.standing.defaults import ABSENT, pin_of
from mmgrid.store import Store


def why(cell: Cell, store: Store, spec: GridSpec | None = None) -> list[str]:
    """One line for each reason; a single line if the cell is built or was never built.

    spec: of the grid; with it, a reason says where a default has changed, and how the grid can keep the old one.
    """
    if store.has(cell.address):
        return [f"{cell.name} is built: {store.folder(cell.address)}"]
    versions = store.versions_of(cell.name)
    if not versions:
        twin = _renamed(cell, store)
        called = f" under this name; {twin} is the same, and with that name nothing has to be built" if twin else ""
        return [f"{cell.name} has never been built in this store{called}"]
    newest = versions[0]
    if (was_change := EXACT in newest.upstream) != (EXACT in cell.upstream):
        before, now = ("delta", "exact") if was_change else ("exact", "delta")
        return [f"store.keep: {before!r} when it was built, {now!r} now"]
    reasons = [
        f"{place}: {before!r} when it was built, {now!r} now{_about_default(cell, place, before, spec)}"
        for place, before, now in _differences(newest.recipe, plain(cell.recipe), "")
    ]
    for role in sorted(newest.upstream.keys() | cell.upstream.keys()):
        before = newest.upstream[role].fingerprint if role in newest.upstream else None
        now = cell.upstream[role].fingerprint if role in cell.upstream else None
        if before is None or now is None:
            reasons.append(f"{role}: {'is new' if before is None else 'is no longer used'}")
        elif before != now:
            reasons.append(f"{role}: {cell.upstream[role].name} has changed ({before[:8]} → {now[:8]})")
    return reasons or ["nothing in its recipe or upstream differs: the code of its kind has a new step version"]


def _renamed(cell: Cell, store: Store) -> str | None:
    """The name of a built cell that is made of the same in the same way; an evaluation's recipe has its model's name."""

    def made_of(recipe: Mapping[str, Any], upstream: Mapping[str, Any]) -> Any:
        return _unnamed(recipe), {role: one.fingerprint for role, one in upstream.items()}

    wanted = made_of(plain(cell.recipe), cell.upstream)
    for address, _, record in store.entries():
        if address.kind == cell.kind and made_of(record.recipe, record.upstream) == wanted:
            return address.name
    return None


def _unnamed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "model"}


def _about_default(cell: Cell, place: str, before: Any, spec: GridSpec | None) -> str:
    pin = pin_of(cell, place, before, spec) if spec else None
    return f", a new default; `{pin}` in the grid file keeps the old one" if pin else ""


def _differences(before: Any, now: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted(before.keys() | now.keys()):
            inner = f"{place}.{key}" if place else key
            yield from _differences(before.get(key, ABSENT), now.get(key, ABSENT), inner)
    elif before != now:
        yield place, before, now
