"""Commands on a single checkpoint: recommend from a history, and evaluate on a domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgrid.cli.completion import cells, grid_files
from mmgrid.cli.folders import Folders
from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.paradigms.recommender import Recommender

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="The folder of a checkpoint or of a family, or a merge recipe; with --grid also the name of a cell.",
        autocompletion=cells,
    ),
]
DomainFolder = Annotated[
    Path | None,
    typer.Option(
        "--domain-dir", metavar="FOLDER", help="Folder with interactions.parquet and items.parquet, e.g. a corpus cell."
    ),
]
DomainName = Annotated[
    str | None,
    typer.Option(
        "--domain", metavar="NAME", help="The domain to recommend for, if the model is a merge or a family of several."
    ),
]
GridOption = Annotated[
    Path | None,
    typer.Option(
        "--grid",
        metavar="GRID",
        help="A grid file, for the name of a cell or for the calendar.",
        autocompletion=grid_files,
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="The backbone that embeds titles, for a checkpoint outside its store."),
]


def recommend(
    checkpoint: Checkpoint,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", metavar="ITEM", help="Item ids, oldest first; repeat, or join by commas."),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Histories of many users: a table with user_id and history or item_id."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="With --users: the parquet file to write.")
    ] = None,
    domain_dir: DomainFolder = None,
    domain: DomainName = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Number of items.")] = 10,
    grid: GridOption = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Recommend the next items after a history, or for the users of a file."""
    from mmgrid.cli import draw
    from mmgrid.data import Corpus

    if (history is None) == (users is None) or (users is None) != (out is None):
        raise typer.BadParameter("needs either --history, or --users FILE and -o OUT.parquet", param_hint="recommend")
    if users is not None and out is not None:
        from mmgrid.cli.batch_commands import recommend_users

        opened = open_model(checkpoint, domain_dir, domain, grid, store, settings, embedder)
        recommend_users(opened, users, out, k, as_json)
        return
    assert history is not None
    model = open_model(checkpoint, domain_dir, domain, grid, store, settings, embedder)
    corpus = Corpus.load(model.corpus)
    named = [item for part in history for item in part.split(",") if item]
    known = set(corpus.catalogue.ids.tolist())
    if unknown := [item for item in named if item not in known]:
        raise ValueError(f"--history: {', '.join(unknown)} is not among the items of {model.corpus}")
    if not named:
        raise ValueError("--history: names no item")
    (best,) = model.recommender.recommend([named], corpus, k, part=model.part)
    found = [
        {"rank": rank, "item_id": one.item_id, "title": one.title, "score": one.score}
        for rank, one in enumerate(best, start=1)
    ]
    if as_json:
        draw.print_json({"history": named, "items": found})
        return
    titles = dict(zip(corpus.catalogue.ids.tolist(), corpus.catalogue.titles, strict=True))
    draw.say("after " + "; ".join(titles[item] for item in named))
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
        str | None,
        typer.Option(metavar="PHASE", help="test or phase2; phase2 only for checkpoints that were not trained on it."),
    ] = None,
    max_users: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="A sample of at most this many test users.")
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="All test users, even if the grid takes a sample.")
    ] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the sample and of the bootstrap.")] = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Rank the test users' targets with one checkpoint.

    Ranks over the whole catalogue. Options that are left out have the values of the checkpoint's grid, so that the
    results equal those of the grid.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.numbers import Interval
    from mmgrid.grid.file.load import load_grid

    if target not in (None, "test", "phase2"):
        raise typer.BadParameter(f"{target}: must be test or phase2", param_hint="--target")
    model = open_model(checkpoint, domain_dir, domain, grid, store, settings, embedder)
    calendar = load_grid(grid, settings or ()).spec.phases.calendar() if grid else None
    found = model.recommender.evaluate(
        model.corpus,
        calendar=calendar,
        target=target,  # type: ignore[arg-type]
        max_users=max_users,
        all_users=all_users,
        sample_seed=seed,
        seed=seed,
        part=model.part,
    )
    rows = found.rows.to_dicts()
    if as_json:
        draw.print_json(rows)
        return
    shown = [(row["group"], row["metric"], Interval(row["value"], row["low"], row["high"])) for row in rows]
    users = len(found.ranks)
    of_all = "" if users == found.sampled_from else f" of {found.sampled_from:,}"
    draw.print_table(
        f"{checkpoint} on {rows[0]['domain']}: {users:,}{of_all} users, percent",
        ("group", "metric", "value"),
        shown,
        left=2,
    )


@dataclass(frozen=True)
class Opened:
    """A recommender, the folder of the domain's data, and which domain's part of a merge it uses.

    called: the model as the user named it.
    """

    recommender: Recommender
    corpus: Path
    part: str | None
    called: str


def open_model(
    checkpoint: str,
    domain_dir: Path | None,
    domain: str | None,
    grid: Path | None,
    store: Path | None,
    settings: list[str] | None,
    embedder: str | None,
) -> Opened:
    """Open the checkpoint in a folder, the merge of a recipe, or the model of a grid's cell."""
    from mmgrid.backbone.text_embedder import TextEmbedder
    from mmgrid.merging.models.family.place import family_of
    from mmgrid.paradigms.merged import is_recipe, open_merge
    from mmgrid.paradigms.recommender import Recommender

    folder = Folders(grid, store, settings)
    domain_dir = domain_dir and Path(folder(str(domain_dir)))
    embedder = embedder and folder(embedder)
    if grid is None:
        folder(checkpoint)  # says that the name of a cell needs a grid
    if grid is None or Path(checkpoint).exists():
        if grid is None and domain_dir is None:
            raise typer.BadParameter(
                "give the folder of the domain's data, or the grid file (--grid) whose domain it is",
                param_hint="--domain-dir",
            )
        by = TextEmbedder(embedder) if embedder else None
        of_family = family_of(Path(checkpoint)) is not None
        if is_recipe(Path(checkpoint)):
            opened = open_merge(Path(checkpoint), by)
        else:
            opened = Recommender(checkpoint, domain=domain if of_family else None, embedder=by)
        part = None if of_family else domain
        if domain_dir is None:
            domain_dir = Path(folder(f"corpus/{_one_of(opened.facts.domains, part, checkpoint)}"))
        return Opened(opened, domain_dir, part, checkpoint)
    from mmgrid.cli.session import Session
    from mmgrid.grid.standing.open_cell import chain_of, corpus_folder, domains_of, open_cell

    session = Session.open(grid, store, settings)
    cell = session.cell(checkpoint)
    recommender = open_cell(session, checkpoint, domain if cell.kind == "family" else None)
    part = None if cell.kind == "family" else domain
    if domain_dir is not None:
        return Opened(recommender, domain_dir, part, checkpoint)
    of_phase = domain in chain_of(cell)
    one = _one_of(domains_of(session, checkpoint), None if of_phase else domain, checkpoint)
    return Opened(recommender, corpus_folder(session, one), part, checkpoint)


def _one_of(domains: Sequence[str], wanted: str | None, checkpoint: str) -> str:
    """The domain to recommend for: as wanted, else the only one that the model is of."""
    if wanted is not None:
        return wanted
    if not domains:
        raise typer.BadParameter(f"{checkpoint} does not say of which domain it is; choose one", param_hint="--domain")
    if len(domains) > 1:
        raise typer.BadParameter(
            f"{checkpoint} is a merge of {' and '.join(domains)}; choose one", param_hint="--domain"
        )
    return domains[0]
