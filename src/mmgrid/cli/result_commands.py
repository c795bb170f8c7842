"""Commands on what was measured: results and the report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Settings, StoreRoot

MAIN_METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def results(
    grid: GridFile,
    store: StoreRoot = DEFAULT_STORE,
    group: Annotated[str, typer.Option(help="all, active or non_active.")] = "all",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print what was measured; with --json every row: each metric and group, with intervals."""
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.evaluation import GROUPS
    from mmgrid.grid.results import results_table

    session = Session.open(grid, store, settings)
    table = results_table(session.records, session.store)
    session.warn_of_damage()
    if as_json:
        draw.print_json(table.to_dicts())
        return
    if group not in GROUPS:
        raise typer.BadParameter(f"{group}: must be one of {', '.join(GROUPS)}")
    cells: dict[tuple[Any, ...], dict[str, str]] = {}
    several = len(session.grid.spec.all_seeds) > 1
    for row in table.filter(table["group"] == group).to_dicts():
        model = f"{row['model']} seed={row['seed']}" if several else row["model"]
        key = (row["domain"], row["paradigm"], model, row["n_users"])
        value = draw.number_text(row["value"])
        interval = f" [dim]{row['low']:.2f}–{row['high']:.2f}[/dim]" if row["n_users"] else ""
        cells.setdefault(key, {})[row["metric"]] = value + interval
    rows = [
        (domain, paradigm, model, *(found[metric] for metric in MAIN_METRICS), users)
        for (domain, paradigm, model, users), found in sorted(cells.items(), key=lambda cell: cell[0][:2])
    ]
    title = f"{session.grid.spec.name}, group {group}: percent, with 95 % bootstrap intervals"
    draw.print_table(title, ("domain", "paradigm", "model", *MAIN_METRICS, "users"), rows, left=3)


def report(
    grid: GridFile,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: NAME.html.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the report: one HTML file that opens without a network."""
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.files import clear_disk_errors
    from mmgrid.report import write_report

    session = Session.open(grid, store, settings)
    out = out or Path(f"{session.grid.spec.name}.html")
    tables = report_tables(session, grid)
    session.warn_of_damage()
    with clear_disk_errors(out):
        write_report(tables, out)
    if as_json:
        draw.print_json({"report": str(out.resolve()), "bytes": out.stat().st_size})
        return
    draw.say(f"report: {out.resolve()}")


def report_tables(session: Any, grid: Path) -> Any:
    """What the report of a grid says, read from its store."""
    from mmgrid.cli import draw
    from mmgrid.grid import results as tables
    from mmgrid.report import ReportTables

    spec, records = session.grid.spec, session.records
    seconds = sum(record.seconds for record in records.values())
    facts = {
        "Backbone": spec.backbone.kind,
        "Domains": ", ".join(spec.data.domains),
        "Phases": "; ".join(f"{name} {start} to {end}" for name, (start, end) in spec.phases.model_dump().items()),
        "Target": spec.evaluation.target,
        "Catalogue": spec.data.catalogue,
        "Seeds": ", ".join(map(str, spec.all_seeds)),
        "Threads a cell": str(spec.threads_per_cell),
        "Cells built": f"{len(records)} of {len(session.cells)}, {draw.duration(seconds)} of work",
    }
    versions = next(iter(records.values())).versions if records else {}
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return ReportTables(
        name=spec.name,
        command=f"mmgrid run {grid} && mmgrid report {grid}",
        facts=facts,
        cells=tables.cells_table(session.cells, records),
        statistics=tables.statistics_table(records),
        results=tables.results_table(records, session.store),
        losses=tables.losses_table(records, session.store),
        changes=tables.changes_table(records, session.store),
    )
