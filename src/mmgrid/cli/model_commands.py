"""Commands on a single checkpoint: recommend from a history, and evaluate on a domain."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmgrid.cli.options import AsJson

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint's folder; `mmgrid path` prints it.")
]
DomainFolder = Annotated[
    Path,
    typer.Option(
        "--domain-dir", metavar="DIR", help="Folder with interactions.parquet and items.parquet, e.g. of a corpus."
    ),
]


def recommend(
    checkpoint: Checkpoint,
    domain_dir: DomainFolder,
    history: Annotated[
        list[str],
        typer.Option("--history", metavar="ITEM", help="Item ids, oldest first; repeat, or join by commas."),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Recommend the next items after a history."""
    import numpy as np

    from mmgrid.cli import draw
    from mmgrid.data import Histories
    from mmgrid.paradigms.registry import open_checkpoint

    corpus = _corpus(domain_dir)
    items = corpus.catalogue
    row_of = {item: row for row, item in enumerate(items.ids.tolist())}
    named = [item for part in history for item in part.split(",") if item]
    unknown = [item for item in named if item not in row_of]
    if unknown or not named:
        raise ValueError(f"--history: {', '.join(unknown) or 'no item'} is not among the items of {domain_dir}")
    rows = np.array([row_of[item] for item in named], np.int32)
    offsets, times = np.array([0, len(rows)], np.int64), np.arange(len(rows), dtype=np.int64)
    histories = Histories(np.zeros(1, np.int64), offsets, rows, times, len(rows))
    paradigm, model = open_checkpoint(checkpoint)
    best, scores = paradigm.recommend(model, histories, items, k)
    found = [
        {"rank": rank + 1, "item_id": str(items.ids[row]), "title": items.titles[row], "score": float(score)}
        for rank, (row, score) in enumerate(zip(best[0], scores[0], strict=True))
        if row >= 0
    ]
    if as_json:
        draw.print_json({"history": named, "items": found})
        return
    draw.console.print("after " + "; ".join(items.titles[row] for row in rows), markup=False)
    rows_shown = [(str(row["rank"]), row["item_id"], row["title"], row["score"]) for row in found]
    draw.print_table("", ("", "item", "title", "score"), rows_shown, left=3)


def evaluate(
    checkpoint: Checkpoint,
    domain_dir: DomainFolder,
    grid: Annotated[
        Path | None, typer.Option(help="Take the calendar from this grid file, not the checkpoint.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="test or phase2; phase2 only for checkpoints that were not trained on it.")
    ] = "test",
    max_users: Annotated[int | None, typer.Option(min=1, help="A deterministic sample of test users.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the sample of --max-users and the intervals' resamples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Rank the test users' targets with one checkpoint, over the whole catalogue."""
    from mmgrid.cli import draw
    from mmgrid.data import Calendar, catalogue_at, test_set
    from mmgrid.evaluation import rows
    from mmgrid.grid.file.load import load_grid
    from mmgrid.paradigms.facts import facts
    from mmgrid.paradigms.registry import open_checkpoint

    if target not in ("test", "phase2"):
        raise typer.BadParameter(f"{target}: must be test or phase2")
    about = facts(checkpoint)
    calendar = load_grid(grid).spec.phases.calendar() if grid else _calendar(about, checkpoint, Calendar)
    _check_unseen(about, checkpoint, calendar.phase(target))
    end, known_until = (calendar.test.end, calendar.t2) if target == "test" else (calendar.t2, calendar.t1)
    corpus = _corpus(domain_dir, until=end)
    catalogue = about.get("recipe", {}).get("catalogue", "closed")
    items = catalogue_at(corpus, catalogue, known_until)
    tested = test_set(corpus, calendar, target, max_users, seed)  # type: ignore[arg-type]
    paradigm, model = open_checkpoint(checkpoint)
    ranks = paradigm.rank(model, tested.histories, items, tested.targets)
    table = rows(
        ranks, tested.active, paradigm=paradigm.name, domain=corpus.name, model=about.get("phase") or "", seed=seed
    )
    if as_json:
        draw.print_json(table.to_dicts())
        return
    shown = [(row["group"], row["metric"], row["value"], row["low"], row["high"]) for row in table.to_dicts()]
    draw.print_table(
        f"{checkpoint} on {corpus.name}: {len(tested):,} users, percent",
        ("group", "metric", "value", "low", "high"),
        shown,
        left=2,
    )


def _calendar(about: dict[str, Any], checkpoint: Path, calendar: Any) -> Any:
    if "phases" not in about:
        raise ValueError(f"{checkpoint}: does not say its phases (a merge?); name a grid file with --grid")
    return calendar.from_dates(about["phases"])


def _check_unseen(about: dict[str, Any], checkpoint: Path, target: Any) -> None:
    """Raise ValueError if the checkpoint was trained beyond the start of the phase that is to be ranked."""
    from mmgrid.data.calendar import format_time
    from mmgrid.paradigms.facts import trained_until

    end = trained_until(about)
    if end is not None and end > target.start:
        instead = "rank it for --target test" if target.name == "phase2" else "give another --grid"
        raise ValueError(
            f"{checkpoint}: was trained on interactions up to {format_time(end)}, and {target} begins before that: it "
            f"would be scored on what it has seen. Take a checkpoint of an earlier phase, which ends by "
            f"{format_time(target.start)}, or {instead}"
        )


def _corpus(folder: Path, until: int | None = None) -> Any:
    from mmgrid.data import Corpus

    return Corpus.load(folder, until=until)
