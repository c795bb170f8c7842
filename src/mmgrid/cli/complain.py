"""Prints errors and warnings of a command on standard error; loads nothing heavy."""

import typer

from mmgrid.visible import visible_lines


def complain(message: object) -> None:
    """Print an error or a warning on standard error."""
    typer.echo(f"mmgrid: {visible_lines(message)}", err=True)
