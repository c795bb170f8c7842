"""The commands `results` and `report`, which show what a grid has measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mmgrid.cli.completion import studies
from mmgrid.cli.kept_views import print_merges
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Settings, StoreRoot

STUDY_METRICS = ("ndcg@20",)
MAIN_METRICS = ("recall@10", "ndcg@10")  # two metrics with intervals fill a terminal of 80 columns


def results(
    grid: GridFile,
    store: StoreRoot = DEFAULT_STORE,
    group: Annotated[str, typer.Option(metavar="USERS", help="Users: all, active or non_active.")] = "all",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="recall@K or ndcg@K with K 5, 10 or 20, or mrr; may be repeated. Default: recall@10 and ndcg@10; of a study ndcg@20.",
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print the tables of this study instead.", autocompletion=studies)
    ] = None,
    merges: Annotated[
        bool, typer.Option("--merges", help="Print what merges and families keep of each domain's own model instead.")
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the results with their intervals.

    --json prints every row, metric and group with all digits.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.evaluation import DEFAULT_METRICS, GROUPS
    from mmgrid.grid.standing.results import results_table
    from mmgrid.grid.standing.stored_changes import stored_changes
    from mmgrid.quantities import size
    from mmgrid.studies.statistics.ranked import METRICS as MERGE_METRICS

    metrics = tuple(metric or MAIN_METRICS)
    for option, values, known in (("--group", [group], GROUPS), ("--metric", metrics, DEFAULT_METRICS)):
        unknown = [value for value in values if value not in known]
        if unknown:
            raise typer.BadParameter(f"{', '.join(unknown)}: must be one of {', '.join(known)}", param_hint=option)
    session = Session.open(grid, store, settings, must_exist=True)
    session.check_built("evaluation" if study is None else None)
    if study is not None:
        _study(session, study, group, metric, as_json)
        return
    if merges:
        if unknown := [name for name in metric or () if name not in MERGE_METRICS]:
            problem = f"{', '.join(unknown)}: what merges keep is measured by {', '.join(MERGE_METRICS)}"
            raise typer.BadParameter(problem, param_hint="--metric")
        session.warn_of_damage()
        print_merges(session, group, metric or (), as_json=as_json)
        return
    table = results_table(session.records, session.store)
    session.warn_of_damage()
    if as_json:
        draw.print_json(table.to_dicts())
        return
    _print_scores(session, table, group, metrics)
    if (stored := stored_changes(session.records)) is not None:
        draw.say(
            f"{stored.number} checkpoints are stored as changes in {stored.bits} bits: {size(stored.bytes)} in place of "
            f"{size(stored.plain_bytes)}; {100 * stored.least_error:.2g}–{100 * stored.most_error:.2g} % of a change is lost"
        )
    if session.grid.spec.merges or session.grid.spec.families:
        print_merges(session, group, metric or ())


def _print_scores(session: Any, table: Any, group: str, metrics: Sequence[str]) -> None:
    """Print a line per model, with the values of some metrics for a group of users."""
    from mmgrid.cli import draw
    from mmgrid.cli.numbers import short_number

    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    several_seeds = len(session.grid.spec.all_seeds) > 1
    for row in table.filter(table["group"] == group).to_dicts():
        model = f"{row['model']} seed={row['seed']}" if several_seeds else row["model"]
        key = (row["domain"], row["paradigm"], model, row["n_users"])
        value, low, high = (short_number(row[name]) for name in ("value", "low", "high"))
        interval = f" {low}–{high}" if row["n_users"] else ""
        cells.setdefault(key, {})[row["metric"]] = draw.text_of(value, (interval, "dim"))
    rows = [
        (domain, paradigm, model, *(found[name] for name in metrics), users)
        for (domain, paradigm, model, users), found in sorted(cells.items(), key=lambda cell: cell[0][:2])
    ]
    title = f"{session.grid.spec.name}, group {group}: percent, with 95 % bootstrap intervals"
    draw.print_table(title, ("domain", "paradigm", "model", *metrics, "users"), rows, left=3)


def _study(session: Any, name: str, group: str, metrics: Sequence[str] | None, as_json: bool) -> None:
    """Print a study's tables: whole as JSON, else the rows of the chosen group and metrics.

    Without a choice these are the metrics of the paper's studies, of a table without them all that it has.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.study_views import print_study_table
    from mmgrid.studies.registry import STUDIES

    if name not in STUDIES:
        raise typer.BadParameter(f"{name}: must be one of {', '.join(STUDIES)}", param_hint="--study")
    session.warn_of_damage()
    tables = session.study_tables(name)
    if as_json:
        draw.print_json({table: frame.to_dicts() for table, frame in tables.items()})
        return
    for table, frame in tables.items():
        has = frame["metric"].unique(maintain_order=True).to_list() if "metric" in frame.columns else []
        wanted = metrics or [metric for metric in has if metric in STUDY_METRICS] or has
        shown = [row for row in frame.to_dicts() if row.get("metric") in (None, *wanted)]
        if has and not shown:
            draw.say((f"{name}: {table}", "bold"), f": no rows of {', '.join(wanted)}; it has {', '.join(has)}")
            continue
        shown = [row for row in shown if row.get("group", group) == group or table == "best"]
        print_study_table(f"{name}: {table}", frame, shown)


def report(
    grid: GridFile,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: NAME.html.")] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Also write each figure as SVG and PDF, next to the file.")
    ] = True,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the report as one HTML file, and its figures.

    The file opens without a network; the figures are in a folder next to it.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.files.outputs import check_not_read
    from mmgrid.reporting import default_report, publish_report
    from mmgrid.reporting.of_grid import grid_tables

    session = Session.open(grid, store, settings, must_exist=True)
    session.check_built()
    out = out or default_report(session.grid.spec.name)
    if out.is_dir():
        raise FileExistsError(f"{out}: is a folder; name a file")
    check_not_read(out, [grid])
    tables = grid_tables(session, grid)
    session.warn_of_damage()
    folder = out.with_name(f"{out.stem}-figures")
    pictures = publish_report(tables, out, folder if figures else None)
    if as_json:
        files = [str(path.resolve()) for path in pictures]
        draw.print_json({"report": str(out.resolve()), "bytes": out.stat().st_size, "figures": files})
        return
    draw.say(f"report: {out.resolve()}")
    if pictures:
        draw.say(f"figures: {folder.resolve()} ({len(pictures)} files)")
