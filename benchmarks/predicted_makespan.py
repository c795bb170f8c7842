"""How well a built domain predicts how long the others take: `plan --jobs` against a run that has ended.

    mmgrid run grids/demo.toml --store runs --jobs 2
    python benchmarks/predicted_makespan.py grids/demo.toml runs --jobs 2

For each domain, only its own cells and what all start from count as built; the rest is estimated from them, and laid out
over the jobs. Beside it stands the layout of the seconds that the cells took in that run.
"""

import argparse
import re
from pathlib import Path

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.costs.estimate import estimate, slowdown
from mmgrid.grid.costs.known import Known
from mmgrid.grid.costs.totals import with_jobs
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.machine.rates import measured_core

SHARED = ("corpus", "backbone", "base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    session = GridStore.open(given.grid, given.store, ())
    took = {cell: record.seconds for cell, record in session.records.items()}
    core = measured_core()
    print(f"{'built':<16}{'cells left':>12}{'predicted, s':>14}{'took, s':>10}{'ratio':>8}")
    for domain in session.grid.spec.data.domains:
        built = {cell: record for cell, record in session.records.items() if is_of(cell, domain)}
        left = [cell for cell in took if cell not in built]
        costs = estimate(left, Known(built, session.grid), core=core, slowdown=slowdown(given.jobs))
        predicted = with_jobs(costs, given.jobs)
        actual = with_jobs({cell: took[cell] for cell in left}, given.jobs)
        print(f"{domain:<16}{len(left):>12}{predicted:>14.0f}{actual:>10.0f}{predicted / actual:>8.2f}")


def is_of(cell: Cell, domain: str) -> bool:
    """Whether a cell is of this domain alone, or one that all domains start from."""
    return cell.kind in SHARED or (domain in cell.key and not re.search("[+=]", cell.name))


if __name__ == "__main__":
    main()
