"""What the shell offers after Tab: grid files, names of cells, domains, studies and merge methods.

Nothing is printed and nothing fails: without an answer, the shell offers files.
"""

import contextlib
from pathlib import Path
from typing import Any

import typer

SUFFIX = ".toml"


def grid_files(incomplete: str) -> list[str]:
    """Grid files and folders that begin like this."""
    typed = Path(incomplete)
    folder, begin = (typed, "") if incomplete.endswith("/") or not incomplete else (typed.parent, typed.name)
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(begin) and (begin or not path.name.startswith(".")):
                if path.is_dir():
                    found.append(f"{path}/")
                elif path.suffix == SUFFIX:
                    found.append(str(path))
    return found


def cells(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the cells of the command's grid, whose raw files are not read."""
    grid = ctx.params.get("grid")
    if grid is None:
        return []
    with contextlib.suppress(Exception):
        from mmgrid.grid.cells.expand import expand
        from mmgrid.grid.file.load import load_grid

        settings: Any = ctx.params.get("settings") or ()
        found = expand(load_grid(grid, settings), lambda *_: "0" * 64)
        return [cell.name for cell in found if cell.name.startswith(incomplete) and not cell.family]
    return []


def studies(incomplete: str) -> list[str]:
    """Names of the installed studies."""
    with contextlib.suppress(Exception):
        from mmgrid.studies.registry import STUDIES

        return [name for name in STUDIES if name.startswith(incomplete)]
    return []


def merge_methods(incomplete: str) -> list[str]:
    """Names of the installed merge methods."""
    with contextlib.suppress(Exception):
        from mmgrid.merging.methods import METHODS

        return [name for name in METHODS if name.startswith(incomplete)]
    return []
