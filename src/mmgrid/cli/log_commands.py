"""The command `logs`: prints the log of a cell."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgrid.cli.complain import complain
from mmgrid.cli.options import DEFAULT_STORE, CellName, GridFile, Settings, StoreRoot
from mmgrid.visible import visible_lines

if TYPE_CHECKING:
    from mmgrid.cli.session import Session
    from mmgrid.grid.cells.cell import Cell

LOOK_SECONDS = 0.5  # between two looks at a log that grows


def logs(
    grid: GridFile,
    cell: CellName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, until the cell is no longer being built.")
    ] = False,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
) -> None:
    """Print the log of a cell: traceback, warnings, training.

    The attempts at a cell stand one after the other, the newest at the end. With --follow, a log that is not there yet
    is waited for.
    """
    from mmgrid.cli.session import Session
    from mmgrid.store.lock import is_live
    from mmgrid.store.logs import follow_log, log_of, read_log
    from mmgrid.store.places import lock_of

    session = Session.open(grid, store, settings, must_exist=not follow)
    found = session.cell(cell)
    log, lock = log_of(session.store.root, found.address), lock_of(session.store.folder(found.address))
    if not log.exists():
        _wait_or_refuse(session, found, log, follow)
    pieces = follow_log(log, lambda: is_live(lock), lambda: time.sleep(LOOK_SECONDS)) if follow else read_log(log)
    try:
        for piece in pieces:
            typer.echo(visible_lines(piece.decode("utf-8", "replace")), nl=False)
    except KeyboardInterrupt:  # the usual end of following
        raise typer.Exit(130) from None


def _wait_or_refuse(session: "Session", cell: "Cell", log: Path, follow: bool) -> None:
    """Wait until the log is there. Raises FileNotFoundError if nobody waits for it, or it cannot be expected."""
    from mmgrid.store.logs import other_logs

    built = session.store.has(cell.address)
    if built or not follow:
        reason = (
            "it was built before there were logs, or its log was removed" if built else "no run has begun to build it"
        )
        others = other_logs(session.store.root, cell.address)
        more = f"; the newest log of another version is {others[0]}" if others else ""
        raise FileNotFoundError(f"{cell.name}: has no log in {session.store.root}: {reason}{more}")
    complain(f"{cell.name}: is not being built yet; waiting for {log}")
    try:
        while not log.exists():
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
