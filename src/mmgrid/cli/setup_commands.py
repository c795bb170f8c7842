"""The command `init`: writes a grid file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.visible import visible


def init(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The grid file to write. Default: grid.toml, or demo.toml with --demo."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Write the demonstration: three synthetic domains with all studies.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="Write it for this file or folder of interactions.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="ROLE=NAME", help="A column of --data, e.g. user=uid; the others are guessed."
        ),
    ] = None,
    time_unit: Annotated[
        str | None,
        typer.Option(metavar="UNIT", help="Of the times of --data: s, ms, us, ns, or a form such as '%d.%m.%Y %H:%M'."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the text files of --data, e.g. cp1252.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented grid file to start from.

    With --data, it is a grid for your own data: format, domains, columns and phases are guessed, and the guesses shown.
    """
    from importlib.resources import files

    from mmgrid.files import clear_disk_errors, write_bytes

    file = file or Path("demo.toml" if demo else "grid.toml")
    if file.exists() and not force:
        raise FileExistsError(f"{file}: exists already; choose another name, or replace it with --force")
    for option, value in (("--column", column), ("--time-unit", time_unit), ("--encoding", encoding)):
        if value and data is None:
            raise ValueError(f"{option}: describes the files of --data; give both")
    if demo and data is not None:
        raise ValueError("--demo: brings data of its own; leave out --data")
    if data is None:
        text = files("mmgrid.grid.file").joinpath("demo.toml" if demo else "template.toml").read_bytes()
    else:
        text = _for_data(data, file, column or [], time_unit, encoding).encode()
    with clear_disk_errors(file):
        write_bytes(file, text)
    typer.echo(visible(f"{file}: written; `mmgrid plan {file}` shows its cells, `mmgrid run {file}` builds them"))


def _for_data(data: Path, file: Path, columns: list[str], time_unit: str | None, encoding: str | None) -> str:
    """The grid file for data; prints what was guessed."""
    from mmgrid.cli import draw
    from mmgrid.cli.options import columns_of
    from mmgrid.data.looking import look
    from mmgrid.data.planning import plan_phases
    from mmgrid.data.readers import TableOptions
    from mmgrid.grid.file.from_data import grid_text, guesses

    found = look(data, columns_of(columns), TableOptions(time_unit=time_unit, encoding=encoding))
    plan = plan_phases([found.read(domain) for domain in found.domains])
    draw.print_table(f"Guessed from {data}", ("", "guess"), guesses(found, plan), left=2)
    return grid_text(found, plan, file)
