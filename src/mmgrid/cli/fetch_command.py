"""The command `mmgrid data fetch`: the raw files of a grid's domains."""

from typing import Annotated, Literal

import typer

from mmgrid.cli.options import AsJson, GridFile, Settings


def fetch(
    grid: GridFile,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="NAME", help="Only this domain of the grid; repeatable.")
    ] = None,
    source: Annotated[
        Literal["publishers", "hub"],
        typer.Option("--from", metavar="SOURCE", help="publishers (gzipped JSON lines) or hub (parquet, checksums)."),
    ] = "publishers",
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="MMGRID_FETCH_URL", help="Another server with the same paths."),
    ] = None,
    reviews: Annotated[
        bool, typer.Option("--reviews", help="All reviews, with their texts, in place of the 5-core's ratings.")
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the files of Amazon Reviews 2023 that a grid needs into its root.

    What is there is left as it is; a download that was cut goes on where it ended.
    """
    from pathlib import Path

    from mmgrid.cli import draw
    from mmgrid.data.fetching import fetch as run
    from mmgrid.grid.file.load import load_grid

    found = load_grid(grid, settings or ())
    data = found.spec.data
    if data.format != "amazon2023":
        raise ValueError(f'{grid}: data.format is "{data.format}"; only the files of "amazon2023" can be fetched')
    for name in domain or ():
        if name not in data.domains:
            raise ValueError(f"--domain {name}: is not in the grid; its domains are {', '.join(data.domains)}")
    root = Path(found.path(str(data.root)))
    with draw.Bytes("fetching", hidden=as_json) as bar:
        files = run(
            root, domain or data.domains, source=source, base_url=base_url, reviews=reviews, progress=bar.of_file
        )
    if as_json:
        draw.print_json({"files": [str(file) for file in files]})
        return
    for file in files:
        draw.say(str(file))
