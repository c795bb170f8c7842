"""Prints errors and warnings of a command on standard error; loads nothing heavy."""

import typer

from mmgrid.machine.unspoken import unspoken
from mmgrid.visible import visible_lines


def complain(message: object) -> None:
    """Print an error or a warning on standard error."""
    typer.echo(f"mmgrid: {visible_lines(unspoken(message))}", err=True)
