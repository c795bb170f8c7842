"""The command `mmgrid`: names the commands, and turns errors that a user can mend into one clear line.

What a command needs is imported inside it, so that `mmgrid --help` answers at once.
"""

import os
import sys

import typer

from mmgrid.cli import (
    advise_commands,
    data_commands,
    grid_commands,
    merge_commands,
    model_commands,
    result_commands,
    setup_commands,
)

app = typer.Typer(
    name="mmgrid",
    help="Grids of generative recommenders across domains and time, and what merging them does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(setup_commands.init)
app.command()(setup_commands.doctor)
app.add_typer(data_commands.app, name="data")
app.command()(grid_commands.plan)
app.command()(grid_commands.run)
app.command()(grid_commands.status)
app.command()(grid_commands.path)
app.command()(grid_commands.why)
app.command()(grid_commands.gc)
app.command()(result_commands.results)
app.command()(result_commands.report)
app.command()(advise_commands.advise)
app.command()(model_commands.recommend)
app.command()(model_commands.evaluate)
app.command()(merge_commands.merge)
app.command()(merge_commands.methods)
app.command()(merge_commands.diff)


def main() -> None:
    """The entry point of the console script."""
    # Other libraries' progress bars and advice have no place between a command's own lines.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        # Errors of the domain derive from these and say what was wrong, where, and what to do.
        if os.environ.get("MMGRID_DEBUG"):
            raise
        typer.echo(f"mmgrid: {error}", err=True)
        sys.exit(1)
