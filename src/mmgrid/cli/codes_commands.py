"""The commands of `mmgrid codes`: semantic IDs of items."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.cli.help import App
from mmgrid.cli.model_commands import Checkpoint, DomainFolder, DomainName, Embedder, GridOption, open_model
from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot

app = App(help="Semantic IDs of items.")


@app.callback()
def _codes() -> None:
    """Keeps `add` a command of its own, though it is the only one."""


@app.command()
def add(
    checkpoint: Checkpoint,
    items: Annotated[
        Path, typer.Option(metavar="FILE", help="A table of items: item_id, title and, if any, description.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The new checkpoint's folder.")],
    domain_out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder to write for the domain with the new items.")
    ],
    domain_dir: DomainFolder = None,
    domain: DomainName = None,
    codes: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The codebook, for a checkpoint outside its store.")
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Vectors of the new items (parquet), if the grid has a table of vectors."),
    ] = None,
    grid: GridOption = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Give codes to items that appeared after training.

    The codebook is frozen and no older code changes. Recommend with the new checkpoint and the new domain folder.
    """
    import numpy as np

    from mmgrid.cli import draw
    from mmgrid.data import Corpus, Items
    from mmgrid.data.readers.item_files import read_items
    from mmgrid.grid.standing.codebook import codebook_folder, item_vectors
    from mmgrid.paradigms.semid.new_items import add_codes, check_has_codes
    from mmgrid.semantic_ids.vector_table import read_vectors

    opened = open_model(checkpoint, domain_dir, domain, grid, store, settings, embedder)
    folder = opened.recommender.folder
    check_has_codes(folder, opened.called)
    book, corpus = codebook_folder(folder, codes, opened.called), Corpus.load(opened.corpus)

    def embed(new: Items) -> np.ndarray:
        if vectors is not None:
            return read_vectors(vectors, new.ids)
        return item_vectors(book, corpus.catalogue, new, opened.recommender.embedder)

    new = read_items(items)
    done = add_codes(folder, corpus, new, book, embed, out, domain_out, part=domain)
    if as_json:
        draw.print_json({"folder": str(out), "domain_folder": str(domain_out)} | vars(done))
        return
    draw.say(f"{out}: codes of {done.items:,} items, {done.added:,} of them new")
    if done.known:
        draw.say(f"{done.known:,} items of {items} had a code, which stays")
    if done.moved:
        draw.say(f"{done.moved:,} new items moved to a free code, since theirs was taken")
    if done.colliding:
        draw.say(f"{done.colliding:,} new items share their code with others, since none beside it was free")
    draw.say(f"{domain_out}: the domain with the new items (--domain-dir)")
