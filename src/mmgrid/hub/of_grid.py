"""What a grid knows of one of its models: the folder, where it comes from, and what was measured with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mmgrid.cards import Measured
from mmgrid.grid.builders.origin import origin_of
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import GridError
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.studies.contract import ROWS_FILE


@dataclass(frozen=True)
class ModelOfGrid:
    """A built cell with a model."""

    folder: Path
    origin: dict[str, Any]
    measured: tuple[Measured, ...]


def model_of_grid(grid: GridStore, name: str) -> ModelOfGrid:
    """The model of the cell with this name, or in this folder.

    Raises:
        GridError: the grid has no such cell.
        FileNotFoundError: it is not built.
    """
    cell = _cell(grid, name)
    folder = grid.folder(cell)
    evaluations = [
        one for one in grid.records if one.kind == "evaluation" and not one.family and one.upstream.get("model") == cell
    ]
    measured: list[Measured] = []
    for one in evaluations:
        for row in pl.read_parquet(grid.store.folder(one.address) / ROWS_FILE).to_dicts():
            split, figures = grid.grid.spec.evaluation.target, (row["value"], row["low"], row["high"])
            if None not in figures:
                measured.append(
                    Measured(row["domain"], split, row["group"], row["metric"], *figures, users=row["n_users"])
                )
    return ModelOfGrid(folder, origin_of(cell, grid.grid, grid.store), tuple(measured))


def _cell(grid: GridStore, name: str) -> Cell:
    place = Path(name)
    if place.is_dir() and all(cell.name != name for cell in grid.cells):
        for cell in grid.records:
            if grid.store.folder(cell.address).resolve() == place.resolve():
                return cell
        raise GridError(f"{name}: is not a cell of {grid.grid.file} in {grid.store.root}; to publish it, name no grid")
    return grid.cell(name)
