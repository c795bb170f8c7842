"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.cli.completion import cells, grid_files

GridFile = Annotated[Path, typer.Argument(metavar="GRID", help="The grid file (TOML).", autocompletion=grid_files)]
GridOfCells = Annotated[
    Path | None,
    typer.Option(
        "--grid",
        metavar="GRID",
        help="A grid file: the name of one of its cells may stand for a folder.",
        autocompletion=grid_files,
    ),
]
OptionalGrid = Annotated[
    Path | None,
    typer.Argument(
        metavar="[GRID]", help="A grid file, whose store it is. Default: the store nearby.", autocompletion=grid_files
    ),
]
StoreRoot = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FOLDER",
        help="The folder of built cells. Default: `runs` beside the grid file; until there is one, a store `runs` one "
        "folder above it or in the working folder.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value of the grid file, e.g. evaluation.max_users=500."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="GLOB", help="Only cells that match, e.g. 'checkpoint/*/books/*', and the cells they need."
    ),
]
CellName = Annotated[
    str,
    typer.Argument(
        metavar="CELL", help="The name of a cell, e.g. corpus/books, as in `mmgrid plan`.", autocompletion=cells
    ),
]
DEFAULT_STORE = None
"""The store that `store_of_grid` finds."""


def columns_of(settings: list[str] | None) -> dict[str, str]:
    """Role → column, from settings `ROLE=NAME`. Raises ValueError for any other, and for unknown roles."""
    from mmgrid.data.readers import Columns

    given = {}
    for setting in settings or ():
        role, equals, name = setting.partition("=")
        if not equals or not name:
            raise ValueError(f"--column {setting}: expected ROLE=NAME, for example user=uid")
        if role not in Columns.model_fields:
            raise ValueError(f"--column {setting}: {role} is unknown; known are {', '.join(Columns.model_fields)}")
        given[role] = name
    return given
