"""The commands `run`, `status`, `gc`, `path` and `why`."""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.blocked import say_blocked
from mmgrid.cli.options import DEFAULT_STORE, AsJson, CellName, GridFile, Only, OptionalGrid, Settings, StoreRoot
from mmgrid.cli.stopping import say_stopped
from mmgrid.machine.uncollected import uncollected
from mmgrid.quantities import duration
from mmgrid.visible import visible

if TYPE_CHECKING:
    from mmgrid.cli.session import Session
    from mmgrid.grid.cells.cell import Cell
    from mmgrid.grid.standing.time_left import TimeLeft
    from mmgrid.runners import RunOutcome
    from mmgrid.runners.crew import Crew

_WATCH_SECONDS = 2.0


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
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS|local",
            help="Build on the machines of the Ray cluster with this head, such as 10.0.0.1:6379; they share the store's "
            "folder. `auto`: the cluster of this machine. `local`: one of this machine alone.",
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
    from mmgrid.cli.crews import crew_of
    from mmgrid.cli.progress import Progress
    from mmgrid.cli.session import Session
    from mmgrid.runners import fetch_models, run_cells

    with uncollected():
        session = Session.open(grid, store, settings)
        cells = session.chosen(only)
        missing = [cell for cell in cells if cell not in session.records]
    started = time.monotonic()
    try:
        with crew_of(session, cells, jobs, ray) as (crew, left):
            if as_json:
                _stream(cells, session, crew, left)
            draw.say(
                (session.grid.spec.name, "bold"),
                f": {len(cells)} cells, {len(missing)} to build in {session.store.root}",
            )
            if ray is None and sys.stderr.isatty():
                fetch_models(missing, session.grid)
            with Progress(len(missing), left.seconds) as watch:
                outcome = run_cells(cells, session.store, crew, left, on_event=watch, of_grid=session.cells)
    except KeyboardInterrupt:
        sys.exit(say_stopped("finished cells are kept, and the next run continues from them"))
    took = duration(time.monotonic() - started)
    draw.say(f"{len(outcome.built)} built, {len(outcome.present)} already there, in {took}")
    if not outcome.complete:
        _say_blocked(outcome)
        raise typer.Exit(1)


def _say_blocked(outcome: "RunOutcome") -> None:
    """Print which cells are blocked by which, and how many have failed."""
    from mmgrid.cli import draw

    for culprit in dict.fromkeys(outcome.blocked.values()):
        names = [name for name, above in outcome.blocked.items() if above == culprit]
        say_blocked(culprit, names)
    draw.say(
        (f"{len(outcome.failed)} failed", "red"),
        f", {len(outcome.blocked)} blocked; finished cells are kept: fix the problem and run again",
    )


def _stream(cells: "Sequence[Cell]", session: "Session", crew: "Crew", left: "TimeLeft") -> None:
    """Run, and print the lines of the event file as they come, and then the outcome. Ends the command."""
    import dataclasses

    from mmgrid.cli import draw
    from mmgrid.runners import Entries, run_cells

    entries = Entries()

    def show(event: Any) -> None:
        if (entry := entries.of(event)) is not None:
            draw.print_json_line(entry)

    outcome = run_cells(cells, session.store, crew, left, on_event=show, of_grid=session.cells)
    lists = {key: value for key, value in dataclasses.asdict(outcome).items() if value or key != "damaged"}
    draw.print_json_line({"event": "end", **lists})
    raise typer.Exit(0 if outcome.complete else 1)


def status(
    grid: OptionalGrid = None,
    store: StoreRoot = DEFAULT_STORE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again whenever it has changed, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the contents of a store, work in progress and failures.

    Without a grid: of the store `runs` in the working folder, or of the only one a folder below.
    """
    import time

    from mmgrid.cli import draw
    from mmgrid.cli.session import existing_store
    from mmgrid.cli.store_views import Contents

    found = existing_store(grid, store)
    shown = None
    while True:
        with uncollected():
            contents = Contents.of(found)
        if contents != shown:
            if watch and not as_json and draw.console.is_terminal:
                draw.console.clear()
            contents.print_json(in_one_line=watch) if as_json else contents.show()
        if not watch:
            return
        shown = contents
        time.sleep(_WATCH_SECONDS)


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
    sizes = {
        address: session.store.size(address, record)
        for address, _, record in session.store.entries()
        if address not in named
    }
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
