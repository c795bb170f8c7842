"""The commands of `mmgrid data`: prepare a single domain, show statistics of a grid's domains, export and fetch domains."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmgrid.cli.complain import complain
from mmgrid.cli.fetch_command import fetch
from mmgrid.cli.help import App
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Settings, StoreRoot, columns_of

ExportFormat = Literal["recbole", "parquet", "csv"]  # as in `mmgrid.data.export`

app = App(help="Fetch, prepare, describe and export data.")


@app.command()
def prepare(
    ratings: Annotated[
        Path, typer.Option(metavar="FILE", help="Interactions: a table of text, JSON lines, parquet or Arrow.")
    ],
    items: Annotated[Path, typer.Option(metavar="FILE", help="Items: likewise.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for interactions.parquet and items.parquet.")],
    min_date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Drop interactions before this day.")
    ] = None,
    max_date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Drop interactions on or after this day.")
    ] = None,
    min_interactions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Minimum interactions of a user and of an item.")
    ] = 5,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="ROLE=NAME",
            help="A column that is called otherwise, e.g. user=uid, id=sku (of the items), or time=#4 by its number.",
        ),
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(metavar="UNIT", help="s, ms, us, ns, or a form of dates such as '%d.%m.%Y %H:%M'.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of text files, e.g. cp1252.")] = None,
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Leave out lines that cannot be read; they are counted and listed.")
    ] = False,
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
    from mmgrid.data.readers import Columns, PreparationOptions

    check_output(out, (ratings, items))
    options = PreparationOptions(
        columns=Columns.model_validate(columns_of(column)),
        time_unit=time_unit,
        encoding=encoding,
        skip_bad_lines=skip_bad_lines,
        min_interactions=min_interactions,
    )
    prepared = filter_interactions(
        read_files(ratings, items, out.resolve().name, options),
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
    for line in _repairs(summary.get("repairs", {})):
        draw.say(line)
    draw.say(
        f"{out}: {summary['interactions']:,} interactions of {summary['users']:,} users with {summary['items']:,} items"
    )


MOST_BAD_LINES = 10  # that are listed
_MENDED = {
    "no text": "texts that are no text (NaN, None) left empty",
    "lists": "texts that were lists written as text",
    "html": "texts with marks of HTML, which are gone",
    "control characters": "texts with control characters, now spaces",
}


def _repairs(found: dict[str, Any]) -> list[str]:
    """What the reader mended or left out, a line each."""
    lines = [f"{count:,} {_MENDED[kind]}" for kind, count in found.get("texts", {}).items()]
    if found.get("repeated_items"):
        lines.append(f"{found['repeated_items']:,} repeated rows of items; the first with a title counts")
    if found.get("bad_lines"):
        lines.append(f"{found['bad_lines']:,} lines left out:")
        lines += [f"  {line}" for line in found["listed"][:MOST_BAD_LINES]]
        if found["bad_lines"] > MOST_BAD_LINES:
            lines.append(f"  and {found['bad_lines'] - MOST_BAD_LINES:,} more")
    return lines


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="GRID|FOLDER", help="A grid file, or a prepared domain's folder.")],
    to: Annotated[ExportFormat, typer.Option("--to", metavar="FORMAT", help="recbole, parquet or csv.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="The folder to write: new or empty.")],
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="NAME", help="Only this domain of the grid; repeatable.")
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write prepared domains as RecBole's atomic files, as parquet or as CSV.

    Prepares domains of a grid that are not prepared yet. Reading the export gives the same interactions and items.
    """
    from mmgrid.cli import draw
    from mmgrid.data import Corpus
    from mmgrid.data.export import check_export_folder
    from mmgrid.data.export import export as write

    check_export_folder(out)
    folders = {"": source} if source.is_dir() else _prepared(source, store, settings, domain)
    files = write((Corpus.load(folder) for folder in folders.values()), out, to)
    if as_json:
        draw.print_json({"folder": str(out), "files": [str(file) for file in files]})
        return
    for file in files:
        draw.say(str(file))
    draw.say("These rows are filtered already: to use them in a grid as they are, set min_interactions = 1")


def _prepared(file: Path, store: Path | None, settings: list[str] | None, domains: list[str] | None) -> dict[str, Path]:
    """The folders of a grid's prepared domains, which are prepared now if they are missing."""
    from mmgrid.cli.session import Session
    from mmgrid.runners import run_local

    session = Session.open(file, store, settings)
    corpora = {cell.key[0]: cell for cell in session.cells if cell.kind == "corpus"}
    for name in domains or ():
        if name not in corpora:
            raise ValueError(f"--domain {name}: is not in the grid; its domains are {', '.join(corpora)}")
    wanted = {name: cell for name, cell in corpora.items() if not domains or name in domains}
    outcome = run_local(list(wanted.values()), session.grid, session.store)
    for message in outcome.failed.values():
        complain(message)
    if not outcome.complete:
        raise typer.Exit(1)
    return {name: session.store.folder(cell.address) for name, cell in wanted.items()}


app.command()(fetch)


@app.command()
def stats(grid: GridFile, store: StoreRoot = DEFAULT_STORE, settings: Settings = None, as_json: AsJson = False) -> None:
    """Print Table 1 and the data part of Table 4 of the paper, and pictures of the domains over time.

    Prepares domains that are not prepared yet.
    """
    import polars as pl

    from mmgrid.cli import draw
    from mmgrid.cli.data_pictures import gap_rows, month_rows
    from mmgrid.cli.session import Session
    from mmgrid.data.monthly import gap_names, shared_titles
    from mmgrid.grid.standing.results import prepared_corpus, statistics_table
    from mmgrid.grid.standing.state import survey
    from mmgrid.runners import run_local

    session = Session.open(grid, store, settings)
    corpora = [cell for cell in session.cells if cell.kind == "corpus"]
    outcome = run_local(corpora, session.grid, session.store)
    for message in outcome.failed.values():
        complain(message)
    built = survey(corpora, session.store)[0]
    table = statistics_table(built)
    if as_json:
        draw.print_json(table.to_dicts())
    elif len(table):
        draw.print_table("Statistics", table.columns, table.rows())
        own = {str(cell.recipe["domain"]): prepared_corpus(cell, session.store) for cell in built}
        draw.print_table(
            "By month", ("domain", "", "from", "", "until", "most"), month_rows(own, draw.console.width), left=5
        )
        draw.print_table("Age of the chosen items, percent", ("domain", *gap_names()), gap_rows(own))
        shared = shared_titles(own).with_columns(pl.col("of_domain", "of_other") * 100)
        if len(shared):
            names = ("domain", "other", "shared", "of domain %", "of other %")
            draw.print_table("Titles of two domains", names, shared.rows(), left=2)
    if not outcome.complete:
        raise typer.Exit(1)
