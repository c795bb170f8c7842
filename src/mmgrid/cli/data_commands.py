"""The commands `data prepare` and `data stats`: prepare a single domain, and show statistics of a grid's domains."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.cli.complain import complain
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Settings, StoreRoot

app = typer.Typer(help="Prepare and describe data.", no_args_is_help=True)


@app.command()
def prepare(
    ratings: Annotated[Path, typer.Option(help="Interactions: .csv(.gz), .jsonl(.gz) reviews or .parquet.")],
    items: Annotated[Path, typer.Option(help="Items: .csv(.gz), .jsonl(.gz) or .parquet.")],
    out: Annotated[Path, typer.Option(help="Folder for interactions.parquet and items.parquet.")],
    min_date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Drop interactions before this day.")
    ] = None,
    max_date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Drop interactions on or after this day.")
    ] = None,
    min_interactions: Annotated[int, typer.Option(min=1, help="Minimum interactions of a user and of an item.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Prepare one domain and write it as two parquet files.

    Drops repeated rows, items without a title, interactions outside the dates, and users and items with too few
    interactions, in the order of the paper (arXiv 2601.15930).
    """
    from mmgrid.cli import draw
    from mmgrid.data import filter_interactions, read_files
    from mmgrid.data.calendar import milliseconds
    from mmgrid.data.output import check_output, publish

    check_output(out, (ratings, items))
    prepared = filter_interactions(
        read_files(ratings, items, out.resolve().name),
        start=None if min_date is None else milliseconds(min_date),
        end=None if max_date is None else milliseconds(max_date),
        min_interactions=min_interactions,
    )
    publish(prepared.corpus, out)
    summary = prepared.summary()
    if as_json:
        draw.print_json(summary | {"folder": str(out)})
        return
    rows = [(step["step"], step["interactions"], step["users"], step["items"]) for step in summary["dropped"]]
    draw.print_table("Dropped", ("step", "interactions", "users", "items"), rows)
    draw.say(
        f"{out}: {summary['interactions']:,} interactions of {summary['users']:,} users with {summary['items']:,} items"
    )


@app.command()
def stats(grid: GridFile, store: StoreRoot = DEFAULT_STORE, settings: Settings = None, as_json: AsJson = False) -> None:
    """Print Table 1 and the data part of Table 4 of the paper.

    Prepares domains that are not prepared yet.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.grid.standing.results import statistics_table, survey
    from mmgrid.runners import run_local

    session = Session.open(grid, store, settings)
    corpora = [cell for cell in session.cells if cell.kind == "corpus"]
    outcome = run_local(corpora, session.grid, session.store)
    for message in outcome.failed.values():
        complain(message)
    table = statistics_table(survey(corpora, session.store)[0])
    if as_json:
        draw.print_json(table.to_dicts())
    elif len(table):
        draw.print_table("Statistics", table.columns, table.rows())
    if not outcome.complete:
        raise typer.Exit(1)
