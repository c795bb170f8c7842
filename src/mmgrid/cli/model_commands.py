"""Commands on a single checkpoint: recommend from a history, and evaluate on a domain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.paradigms.recommender import Recommender

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="A checkpoint's folder; with --grid also a cell's name, as `plan` shows."
    ),
]
DomainFolder = Annotated[
    Path | None,
    typer.Option(
        "--domain-dir", metavar="DIR", help="Folder with interactions.parquet and items.parquet, e.g. of a corpus."
    ),
]
DomainName = Annotated[
    str | None, typer.Option("--domain", metavar="NAME", help="Of a merge of several domains, the one to serve.")
]
GridOption = Annotated[
    Path | None, typer.Option("--grid", metavar="GRID", help="A grid file: for a cell's name, or for its calendar.")
]
Embedder = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="The backbone that embeds titles, where a checkpoint lies without its store."),
]


def recommend(
    checkpoint: Checkpoint,
    history: Annotated[
        list[str],
        typer.Option("--history", metavar="ITEM", help="Item ids, oldest first; repeat, or join by commas."),
    ],
    domain_dir: DomainFolder = None,
    domain: DomainName = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    grid: GridOption = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Recommend the next items after a history."""
    from mmgrid.cli import draw
    from mmgrid.data import Corpus

    model = _open(checkpoint, domain_dir, domain, grid, store, settings, embedder)
    corpus = Corpus.load(model.corpus)
    named = [item for part in history for item in part.split(",") if item]
    if not named:
        raise typer.BadParameter("name at least one item", param_hint="--history")
    (best,) = model.recommender.recommend([named], corpus, k, part=domain)
    found = [
        {"rank": rank, "item_id": one.item_id, "title": one.title, "score": one.score}
        for rank, one in enumerate(best, start=1)
    ]
    if as_json:
        draw.print_json({"history": named, "items": found})
        return
    titles = dict(zip(corpus.catalogue.ids.tolist(), corpus.catalogue.titles, strict=True))
    draw.console.print("after " + "; ".join(titles[item] for item in named), markup=False)
    rows = [(str(one["rank"]), one["item_id"], one["title"], one["score"]) for one in found]
    draw.print_table("", ("", "item", "title", "score"), rows, left=3)


def evaluate(
    checkpoint: Checkpoint,
    domain_dir: DomainFolder = None,
    domain: DomainName = None,
    grid: GridOption = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    target: Annotated[
        str | None, typer.Option(help="test or phase2; phase2 only for checkpoints that were not trained on it.")
    ] = None,
    max_users: Annotated[int | None, typer.Option(min=1, help="A sample of at most this many test users.")] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="No sample, even if the grid takes one.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of the sample and the intervals' resamples.")] = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Rank the test users' targets with one checkpoint, over the whole catalogue.

    What is not given is what the checkpoint's grid does, so that the figures are the grid's.
    """
    from mmgrid.cli import draw
    from mmgrid.grid.file.load import load_grid

    if target not in (None, "test", "phase2"):
        raise typer.BadParameter(f"{target}: must be test or phase2", param_hint="--target")
    model = _open(checkpoint, domain_dir, domain, grid, store, settings, embedder)
    calendar = load_grid(grid, settings or ()).spec.phases.calendar() if grid else None
    found = model.recommender.evaluate(
        model.corpus,
        calendar=calendar,
        target=target,  # type: ignore[arg-type]
        max_users=max_users,
        all_users=all_users,
        sample_seed=seed,
        seed=seed,
        part=domain,
    )
    rows = found.rows.to_dicts()
    if as_json:
        draw.print_json(rows)
        return
    shown = [(row["group"], row["metric"], row["value"], row["low"], row["high"]) for row in rows]
    users = len(found.ranks)
    of_all = "" if users == found.sampled_from else f" of {found.sampled_from:,}"
    draw.print_table(
        f"{checkpoint} on {rows[0]['domain']}: {users:,}{of_all} users, percent",
        ("group", "metric", "value", "low", "high"),
        shown,
        left=2,
    )


@dataclass(frozen=True)
class _Opened:
    """A recommender, and the folder of the domain that it serves."""

    recommender: Recommender
    corpus: Path


def _open(
    checkpoint: str,
    domain_dir: Path | None,
    domain: str | None,
    grid: Path | None,
    store: Path,
    settings: list[str] | None,
    embedder: str | None,
) -> _Opened:
    """The checkpoint in a folder, or the one that a cell of a grid is called by."""
    from mmgrid.backbone.text_embedder import TextEmbedder
    from mmgrid.paradigms.recommender import Recommender

    if grid is None or Path(checkpoint).is_dir():
        if domain_dir is None:
            raise typer.BadParameter(
                "name the folder of the domain's data, or a grid file (--grid) and a cell's name",
                param_hint="--domain-dir",
            )
        return _Opened(Recommender(checkpoint, embedder=TextEmbedder(embedder) if embedder else None), domain_dir)
    from mmgrid.cli.session import Session
    from mmgrid.grid.standing.open_cell import corpus_folder, domains_of, open_cell

    session = Session.open(grid, store, settings)
    recommender = open_cell(session, checkpoint)
    if domain_dir is not None:
        return _Opened(recommender, domain_dir)
    domains = [domain] if domain else domains_of(session, checkpoint)
    if len(domains) > 1:
        raise typer.BadParameter(f"{checkpoint} serves {' and '.join(domains)}: name one", param_hint="--domain")
    return _Opened(recommender, corpus_folder(session, domains[0]))
