"""Commands on the Hugging Face Hub: publish a model, and fetch one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot


def push(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The folder of a model; with --grid a cell, by its name or folder.")
    ],
    repo: Annotated[str, typer.Option(metavar="NAME", help="NAME or ORG/NAME; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Create it as a private one.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch; created if it does not exist. Default: main.")
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="The message of the commit.")] = None,
    grid: Annotated[
        Path | None, typer.Option("--grid", metavar="GRID", help="A grid file; its results go into the model card.")
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Publish a checkpoint or a merge on the Hugging Face Hub."""
    from mmgrid.cli import draw
    from mmgrid.hub import push as run
    from mmgrid.quantities import size

    folder, known = Path(model), None
    if grid is not None:
        from mmgrid.cli.session import Session
        from mmgrid.hub.of_grid import model_of_grid

        known = model_of_grid(Session.open(grid, store, settings), model)
        folder = known.folder
    pushed = run(
        folder,
        repo,
        private=private,
        revision=revision,
        message=message or f"Publish {model if known else folder.name} by mmgrid",
        measured=known.measured if known else (),
        origin=known.origin if known else None,
    )
    if as_json:
        draw.print_json({"url": pushed.url, "name": str(pushed.name), "files": list(pushed.files)})
        return
    draw.say(f"{len(pushed.files)} files, {size(pushed.total_bytes)}, published as {pushed.name}")
    draw.say(pushed.url)


def pull(
    repo: Annotated[str, typer.Argument(metavar="NAME", help="ORG/NAME, or ORG/NAME@REVISION.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="The new folder. Default: NAME, here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the Hugging Face Hub, and check its digests."""
    from mmgrid.cli import draw
    from mmgrid.hub import pull as run

    pulled = run(repo, out)
    if as_json:
        draw.print_json(
            {"folder": str(pulled.folder), "name": str(pulled.name), "about": pulled.about, "checked": pulled.checked}
        )
        return
    checked = f"the digests of {pulled.checked} files agree" if pulled.checked else "it declares no digests"
    draw.say(f"{pulled.folder}: {pulled.about}, from {pulled.name}; {checked}")
    if pulled.recommends:
        draw.say(f"next: mmgrid recommend {pulled.folder} --domain-dir FOLDER --history ITEM,ITEM")
    else:
        draw.say(f"next: mmgrid merge --method linear --model {pulled.folder} --model OTHER -o OUT")
