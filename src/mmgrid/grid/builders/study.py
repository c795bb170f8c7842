"""`study/<name>/<paradigm>`: a study's tables, put together from the evaluations that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.studies import Context, Part
from mmgrid.studies.contract import replaced
from mmgrid.studies.registry import STUDIES


def answer(
    name: str, needs: Any, part: Callable[[Cell], Part], context: Context, folder: Path, *, cells: int
) -> Mapping[str, Any]:
    """Answer a study and write its tables.

    Args:
        needs: the study's needs, with cells as leaves. part: a built cell as the study reads it.
        cells: how many it reads.

    Raises ValueError if the study does not answer with the tables that it declares.
    """
    study = STUDIES[name]
    tables = study.answer(replaced(needs, Cell, part), context)
    if tables.keys() != study.tables.keys():
        raise ValueError(f"study {name}: answered with {', '.join(tables)}; it declares {', '.join(study.tables)}")
    for table, frame in tables.items():
        if frame.schema != study.tables[table]:
            raise ValueError(f"study {name}: table {table} has {frame.schema}; it declares {study.tables[table]}")
        frame.write_parquet(folder / f"{table}.parquet")
    return {"tables": {table: frame.height for table, frame in tables.items()}, "work": cells}
