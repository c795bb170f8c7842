"""The commands `run`, `status`, `gc`, `path` and `why`."""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, CellName, GridFile, Only, OptionalGrid, Settings, StoreRoot
from mmgrid.cli.stopping import say_stopped
from mmgrid.quantities import duration
from mmgrid.visible import visible

if TYPE_CHECKING:
    from mmgrid.cli.session import Session
    from mmgrid.grid.cells.cell import Cell
    from mmgrid.grid.standing.time_left import TimeLeft


def run(
    grid: GridFile,
    store: StoreRoot = DEFAULT_STORE,
    only: Only = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Cells built at the same time. Default: one on each GPU, others beside them by the number of cores.",
        ),
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Build the missing cells; continues an interrupted run.

    With --json, one event a line; the last one has the outcome.
    """
    import time

    from mmgrid.cli import draw
    from mmgrid.cli.progress import Progress
    from mmgrid.cli.session import Session
    from mmgrid.grid.standing.time_left import TimeLeft
    from mmgrid.machine.gpus import visible_gpus
    from mmgrid.runners import default_jobs, fetch_models, run_local

    session = Session.open(grid, store, settings)
    cells = session.chosen(only)
    missing = [cell for cell in cells if cell not in session.records]
    gpus = visible_gpus()
    if not gpus:
        session.warn_of_slow_bf16(cells)
    jobs = jobs or default_jobs(session.grid.spec.threads_per_cell, gpus)
    left = TimeLeft(cells, session.records, session.store, jobs, session.grid, gpus=len(gpus))
    started = time.monotonic()
    try:
        if as_json:
            _stream(cells, session, jobs, left)
        draw.say(
            (session.grid.spec.name, "bold"),
            f": {len(cells)} cells, {len(missing)} to build in {session.store.root}",
        )
        if sys.stderr.isatty():
            fetch_models(missing, session.grid)
        with Progress(len(missing), left.seconds) as watch:
            outcome = run_local(
                cells, session.grid, session.store, jobs=jobs, on_event=watch, left=left, of_grid=session.cells
            )
    except KeyboardInterrupt:
        sys.exit(say_stopped("finished cells are kept, and the next run continues from them"))
    took = duration(time.monotonic() - started)
    draw.say(f"{len(outcome.built)} built, {len(outcome.present)} already there, in {took}")
    if not outcome.complete:
        for culprit in dict.fromkeys(outcome.blocked.values()):
            names = [name for name, above in outcome.blocked.items() if above == culprit]
            draw.say(("blocked", "yellow"), f" by {culprit}: {', '.join(names)}")
        draw.say(
            (f"{len(outcome.failed)} failed", "red"),
            f", {len(outcome.blocked)} blocked; finished cells are kept: fix the problem and run again",
        )
        raise typer.Exit(1)


def _stream(cells: "Sequence[Cell]", session: "Session", jobs: int, left: "TimeLeft") -> None:
    """Run, and print the lines of the event file as they come, and then the outcome. Ends the command."""
    import dataclasses

    from mmgrid.cli import draw
    from mmgrid.runners import Entries, run_local

    entries = Entries()

    def show(event: Any) -> None:
        if (entry := entries.of(event)) is not None:
            draw.print_json_line(entry)

    outcome = run_local(cells, session.grid, session.store, jobs=jobs, on_event=show, left=left, of_grid=session.cells)
    lists = {key: value for key, value in dataclasses.asdict(outcome).items() if value or key != "damaged"}
    draw.print_json_line({"event": "end", **lists})
    raise typer.Exit(0 if outcome.complete else 1)


def status(grid: OptionalGrid = None, store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Show the contents of a store, work in progress and failures.

    Without a grid: of the store `runs` in the working folder, or of the only one a folder below.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import existing_store
    from mmgrid.grid.cells.stored import EXACT
    from mmgrid.store.places import walk

    found = existing_store(grid, store)
    count: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for address, _, record in found.entries():
        kind = address.kind if address.key[-1:] != (EXACT,) else f"{address.kind}, {EXACT}"
        count[kind] += 1
        sizes[kind] += found.size(address)
        seconds[kind] += record.seconds  # type: ignore[assignment]
    leftovers = [str(path) for path in found.leftovers()]
    damaged = {str(folder): problem for folder, problem in found.damaged()}
    failures = found.failures()
    working = [path.relative_to(found.root).as_posix() for path in walk(found.root) if path.match("*.work")]
    if as_json:
        kinds = {k: {"cells": count[k], "bytes": sizes[k], "seconds": seconds[k]} for k in sorted(count)}
        facts = {"store": str(found.root), "kinds": kinds, "in_work": working}
        failed = {
            one.name: {"message": one.message, "when": one.when, "blocked": list(one.blocked)} for one in failures
        }
        draw.print_json(facts | {"leftovers": leftovers, "damaged": damaged, "failed": failed})
        return
    rows = [(k, count[k], f"{sizes[k] / 1e6:,.1f} MB", duration(seconds[k])) for k in sorted(count)]
    draw.print_table(f"Store {found.root}", ("kind", "cells", "size", "time to build"), rows)
    for line in working:
        draw.say(f"in work: {line}")
    for line in leftovers:
        draw.say(f"left over: {line}")
    for problem in damaged.values():
        draw.say(("damaged", "red"), f": {problem}")
    for one in failures:
        draw.say(("failed", "red"), f" {one.name}: {one.message} ", (f"({one.when})", "dim"))
        if one.blocked:
            draw.say(("blocked", "yellow"), f" by {one.name}: {', '.join(one.blocked)}")


def gc(
    grid: GridFile,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the cells that this grid does not name, after asking.

    If several grids share the store, this removes cells of other grids, too: a store does not record which grid a
    cell belongs to.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session

    session = Session.open(grid, store, settings)
    named = {cell.address for cell in session.cells}
    sizes = {address: session.store.size(address) for address, _, _ in session.store.entries() if address not in named}
    leftovers = session.store.leftovers()
    failures = [one.address for one in session.store.failures() if one.address not in named]
    if not as_json:
        if not sizes and not leftovers and not failures:
            draw.say("nothing to remove: the grid names every cell in the store")
            return
        lines = [f"{path} (left over)" for path in leftovers] + [f"{one.folder} (failed)" for one in failures]
        _say_unnamed(sizes, lines, {cell.name for cell in session.cells})
    if (sizes or leftovers or failures) and not yes:
        what = f"{len(sizes)} cells and {len(leftovers) + len(failures)} leftovers"
        warning = "They include cells of other grids if the store is shared"
        typer.confirm(f"Remove these {what} from {visible(session.store.root)}? {warning}", abort=True, err=as_json)
    for address in sizes:
        session.store.remove(address)
    for path in leftovers:
        session.store.discard(path)
    for address in failures:
        session.store.forget_failure(address)
    if as_json:
        removed = [address.folder for address in sizes]
        draw.print_json({"removed": removed, "leftovers": [str(p) for p in leftovers], "bytes": sum(sizes.values())})


def _say_unnamed(sizes: Mapping[Any, int], leftovers: Sequence[str], names: Collection[str]) -> None:
    """Print the cells to remove, and their totals by kind. sizes: in bytes. names: of the grid's cells."""
    from mmgrid.cli import draw

    for address in sizes:
        draw.say(f"  {address.folder}")
    for line in leftovers:
        draw.say(f"  {line}")
    kinds = {kind: [a for a in sizes if a.kind == kind] for kind in sorted({address.kind for address in sizes})}
    rows = [(kind, len(found), f"{sum(sizes[a] for a in found) / 1e6:,.1f} MB") for kind, found in kinds.items()]
    total = ("total", len(sizes), f"{sum(sizes.values()) / 1e6:,.1f} MB")
    draw.print_table("Not named by this grid", ("kind", "cells", "size"), [*rows, total])
    foreign = sum(address.name not in names for address in sizes)
    if foreign:
        draw.say(f"{foreign} of them have names that do not occur in this grid: are they cells of another grid?")


def path(
    grid: GridFile,
    cell: CellName,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the folder of a built cell.

    Other commands take it, for example `recommend` and `evaluate` that of a checkpoint.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session

    session = Session.open(grid, store, settings)
    found = session.cell(cell)
    folder = str(session.folder(found))
    if as_json:
        draw.print_json({"cell": found.name, "folder": folder})
    else:
        # A program gets the path itself.
        print(visible(folder) if sys.stdout.isatty() else folder)


def why(
    grid: GridFile,
    cell: CellName,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Explain, field by field, why a cell must be built again."""
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.grid.standing.why import why as reasons_for

    session = Session.open(grid, store, settings)
    found = session.cell(cell)
    reasons = reasons_for(found, session.store, session.grid.spec)
    if as_json:
        draw.print_json({"cell": found.name, "built": session.store.has(found.address), "reasons": reasons})
        return
    for reason in reasons:
        draw.say(reason)
