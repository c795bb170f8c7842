"""`study/<name>/<paradigm>`: the tables of a study, computed from the cells that it needs."""

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
        needs: the result of `Study.needs`, with cells as leaves.
        part: converts a built cell to a `Part`.
        cells: the number of cells that the study reads.

    Raises:
        ValueError: the tables are not those that the study declares.
    """
    study = STUDIES[name]
    tables = study.answer(replaced(needs, Cell, part), context)
    if tables.keys() != study.tables.keys():
        raise ValueError(
            f"study {name}: returned the tables {', '.join(tables)}, but declares {', '.join(study.tables)}"
        )
    for table, frame in tables.items():
        if frame.schema != study.tables[table]:
            raise ValueError(
                f"study {name}: table {table} has the schema {frame.schema}, but is declared with {study.tables[table]}"
            )
        frame.write_parquet(folder / f"{table}.parquet")
    return {"tables": {table: frame.height for table, frame in tables.items()}, "work": cells}
