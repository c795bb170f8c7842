"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

GridFile = Annotated[Path, typer.Argument(metavar="GRID", help="The grid file (TOML).")]
StoreRoot = Annotated[Path, typer.Option("--store", metavar="DIR", help="The folder of built cells.")]
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
    str, typer.Argument(metavar="CELL", help="The name of a cell, e.g. corpus/books, as in `mmgrid plan`.")
]
DEFAULT_STORE = Path("runs")
