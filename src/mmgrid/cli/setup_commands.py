"""The command `init`: writes a grid file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.visible import visible


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The grid file to write.")] = Path("grid.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented grid file to start from."""
    from importlib.resources import files

    from mmgrid.files import clear_disk_errors, write_bytes

    if file.exists() and not force:
        raise FileExistsError(f"{file}: exists already; choose another name, or replace it with --force")
    with clear_disk_errors(file):
        write_bytes(file, files("mmgrid.grid.file").joinpath("template.toml").read_bytes())
    typer.echo(visible(f"{file}: written; `mmgrid plan {file}` shows its cells, `mmgrid run {file}` builds them"))
