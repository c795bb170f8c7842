"""The tables of a grid's report, read from its store."""

from pathlib import Path

from mmgrid.grid.standing import results
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.grid.standing.kept import kept_tables
from mmgrid.quantities import duration
from mmgrid.reporting.inputs import ReportTables


def grid_tables(view: GridStore, file: str | Path) -> ReportTables:
    """The tables of a grid's report, from the cells that are built.

    Args:
        file: the path of the grid's file in the commands that the report prints.
    """
    spec, records = view.grid.spec, view.records
    seconds = sum(record.seconds for record in records.values())
    phases = {name: (str(start), str(end)) for name, (start, end) in spec.phases.model_dump().items()}
    versions = next(iter(records.values())).versions if records else {}
    facts = {
        "Backbone": spec.backbone.kind if spec.backbone else "none: the checkpoints are given",
        "Domains": ", ".join(spec.data.domains),
        "Phases": "; ".join(f"{name} {start} to {end}" for name, (start, end) in phases.items()),
        "Target": spec.evaluation.target,
        "Catalogue": spec.data.catalogue,
        "Seeds": ", ".join(map(str, spec.all_seeds)),
        "Threads per cell": str(spec.threads_per_cell),
        "Cells built": f"{len(records)} of {len(view.cells)}, {duration(seconds)} of work",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    kept, served = kept_tables(records, view.store, own_names=True)
    return ReportTables(
        name=spec.name,
        command=f"mmgrid run {file} && mmgrid report {file}",
        facts=facts,
        cells=results.cells_table(view.states, records),
        statistics=results.statistics_table(records),
        results=results.results_table(records, view.store),
        losses=results.losses_table(records, view.store),
        changes=results.changes_table(records, view.store),
        kept=kept,
        served=served,
        studies=results.study_tables(records, view.store),
        codes=results.codes_table(records),
        months=results.months_table(records, view.store),
        phases=phases,
        grid=str(file),
    )
