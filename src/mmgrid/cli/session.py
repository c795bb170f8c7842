"""The grid and store of a command."""

from mmgrid.cli.complain import complain
from mmgrid.grid.standing.grid_store import GridStore


class Session(GridStore):
    """A grid and its store, for a command."""

    def warn_of_damage(self) -> None:
        """Print the problems of damaged cells, which tables leave out, on standard error."""
        for problem in self.damaged.values():
            complain(problem)
