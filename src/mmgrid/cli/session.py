"""What every command on a grid begins with."""

import typer

from mmgrid.grid.standing.grid_store import GridStore


class Session(GridStore):
    """A grid next to its store, for a command."""

    def warn_of_damage(self) -> None:
        """Say on standard error what is wrong with cells that a table has to leave out."""
        for problem in self.damaged.values():
            typer.echo(f"mmgrid: {problem}", err=True)
