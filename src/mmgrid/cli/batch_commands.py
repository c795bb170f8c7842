"""Commands for many users or items at once: recommendations and vectors as parquet files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.model_commands import (
    Checkpoint,
    DomainFolder,
    DomainName,
    Embedder,
    GridOption,
    Opened,
    open_model,
)
from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.paradigms.many_users import Done

_BEAT_SECONDS = 50.0


def embed(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The parquet file to write.")],
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table of items: item_id, title and, if any, description.")
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Histories of users: a table with user_id and history or item_id."),
    ] = None,
    domain_dir: DomainFolder = None,
    domain: DomainName = None,
    grid: GridOption = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Write vectors of items or users, whose dot products are the scores.

    For semb, sasrec and pooled.
    """
    from mmgrid.paradigms.many_users import ITEM_VECTORS, USER_VECTORS, embed_items, embed_users

    if (items is None) == (users is None):
        raise typer.BadParameter("needs either --items or --users", param_hint="embed")
    _check_out(out, users or items, ITEM_VECTORS if users is None else USER_VECTORS)
    opened = open_model(checkpoint, domain_dir, domain, grid, store, settings, embedder)
    ready = opened.recommender.ready(opened.corpus, part=opened.part)
    if users is not None:
        from mmgrid.data.user_files import read_users

        with _progress() as progress:
            done = embed_users(ready, read_users(users), out, identity=_identity(opened), progress=progress)
        _say(out, done, as_json)
        return
    from mmgrid.cli import draw
    from mmgrid.data.readers.item_files import read_items
    from mmgrid.files import clear_disk_errors, replacing_files
    from mmgrid.paradigms import PARADIGMS

    assert items is not None
    spec = PARADIGMS[ready.paradigm.name]
    titles = spec.from_backbone or spec.reads_texts
    table = embed_items(ready, read_items(items, titles=titles))
    with clear_disk_errors(out), replacing_files(out.absolute().parent) as work:
        table.write_parquet(work / out.name)
    if as_json:
        draw.print_json({"file": str(out), "items": len(table), "width": table["vector"].dtype.shape[0]})  # type: ignore[attr-defined]
        return
    draw.say(f"{out}: {len(table):,} items")


def recommend_users(opened: Opened, users: Path, out: Path, k: int, as_json: bool) -> None:
    """`mmgrid recommend --users`."""
    from mmgrid.data.user_files import read_users
    from mmgrid.paradigms.many_users import BEST_ITEMS
    from mmgrid.paradigms.many_users import recommend_users as run

    _check_out(out, users, BEST_ITEMS)
    found = read_users(users)
    ready = opened.recommender.ready(opened.corpus, part=opened.part)
    with _progress() as progress:
        done = run(ready, found, out, k, identity=_identity(opened), progress=progress)
    _say(out, done, as_json)


def _check_out(out: Path, read: Path | None, columns: tuple[str, ...]) -> None:
    """Check that a parquet file can be written there. An older one with these columns is replaced."""
    from mmgrid.files.outputs import check_not_read
    from mmgrid.paradigms.many_users import check_replaceable

    if out.is_dir():
        raise ValueError(f"{out}: is a folder; name a file")
    if out.suffix != ".parquet":
        raise ValueError(f"{out}: is written as parquet; name it {out.with_suffix('.parquet').name}")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.absolute().parent}; create it")
    check_not_read(out, [read])
    check_replaceable(out, columns)


def _identity(opened: Opened) -> list[Any]:
    """What determines the answers of a model in a domain: its files and how it is used, the model that embeds texts, the
    files of the domain, and the version of mmgrid."""
    from mmgrid import __version__
    from mmgrid.paradigms.batch_parts import stamp
    from mmgrid.paradigms.facts import FACTS_FILE, facts, source_folders

    recommender, named = opened.recommender, Path(opened.called)
    folder, about, embedder = recommender.folder, recommender.facts, recommender.embedder
    folders = [named if named.is_dir() else folder]  # of a family, the checkpoint lies in a temporary folder
    if named.is_file():  # and so does the merge of a recipe
        declared = facts(folder) if (folder / FACTS_FILE).is_file() else {}
        folders = list(source_folders(declared, folder).values())
    used = [about.evaluation.get("values"), about.catalogue, about.seed, about.threads]
    if embedder is not None:
        used.append({field.name: str(getattr(embedder, field.name)) for field in fields(embedder)})
        folders.append(Path(embedder.model))
    files = [path for place in folders for path in sorted(place.rglob("*"))] + sorted(opened.corpus.glob("*.parquet"))
    stamps = [stamp(path) for path in [named, *files] if path.is_file()]
    return [str(opened.called), opened.part, __version__, used, stamps]


def _say(out: Path, done: Done, as_json: bool) -> None:
    from mmgrid.cli import draw

    if as_json:
        draw.print_json({"file": str(out)} | vars(done))
        return
    draw.say(f"{out}: {done.users:,} users")
    if done.resumed:
        draw.say(f"{done.resumed:,} of them were done before")
    if done.unknown_items:
        draw.say(f"{done.unknown_items:,} interactions with items outside of the catalogue were left out")
    if done.without_history:
        draw.say(f"{done.without_history:,} users have no history that is known, so nothing is written for them")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Shows the users done, their rate and the time left: a line in a terminal, else a line a minute on standard error."""
    from mmgrid.cli import draw
    from mmgrid.cli.complain import complain
    from mmgrid.quantities import duration

    begun: list[tuple[float, int]] = []
    said = time.monotonic()

    def text(done: int, total: int) -> str:
        start, before = begun[0]
        rate = (done - before) / max(time.monotonic() - start, 1e-9)
        left = duration((total - done) / rate) if rate else "–"
        return f"{done:,} of {total:,} users, {rate:,.0f} a second, {left} left"

    def show(done: int, total: int) -> None:
        nonlocal said
        if not begun:
            begun.append((time.monotonic(), done))  # the first block also loads and compiles
        elif status is not None:
            status.update(text(done, total))
        elif time.monotonic() - said > _BEAT_SECONDS:
            said = time.monotonic()
            complain(text(done, total))

    status = draw.console.status("") if draw.console.is_terminal else None
    if status is None:
        yield show
        return
    with status:
        yield show
