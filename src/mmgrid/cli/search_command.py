"""The command `search`: chooses numbers of a merge on half of the test users, and judges them on the other half."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.grid.search import Found, MergeSearch


def search(
    grid: GridFile,
    merge: Annotated[str, typer.Argument(metavar="MERGE", help="The name of an entry of [[merges]].")],
    over: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=LOW..HIGH",
            help="A number of the entry, and what it may be: scale=0.2..1.5, options.density=0.01..1:log, "
            "weights.garden=0..1, towers.item.scale=0..1, options.window=1..5:int; repeat.",
        ),
    ],
    trials: Annotated[
        int, typer.Option(metavar="N", min=1, help="Trials in all; those of an earlier command count.")
    ] = 50,
    paradigm: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose models are merged, if the merge is of several.")
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="What is maximised in every domain.")] = "ndcg@10",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of the halves of the users, and of the proposals.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="RECIPE", help="Write the best merge as a recipe.")
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Search numbers of a merge: tried on half of the test users, judged on the other half."""
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.grid.search import MergeSearch, Range
    from mmgrid.learning.output import check_free, write_recipe

    ranges = [Range.parse(text) for text in over]
    if out is not None:
        check_free(out)
    session = Session.open(grid, store, settings, must_exist=True)
    wanted = MergeSearch(session, merge, ranges, paradigm=paradigm, metric=metric, seed=seed)
    with draw.Steps(f"searching {merge}", hidden=as_json) as bar:
        found = wanted.run(trials, lambda trial, number: bar(trial.number + 1, number, None))
    files = []
    for name, recipe in (wanted.recipes(found.best.values) if out is not None else {}).items():
        assert out is not None
        file = out.with_name(f"{out.stem}-{name}{out.suffix}") if name else out
        write_recipe(recipe, file)
        files.append(file)
    if as_json:
        draw.print_json(_facts(found) | {"files": [str(file) for file in files]})
    else:
        _print(wanted, found, files)


def _facts(found: Found) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "trials": [asdict(trial) for trial in found.trials],
        "front": [trial.number for trial in found.front],
        "best": found.best.number,
        "own": dict(found.own),
        "judged": {
            ("own" if number < 0 else str(number)): {domain: asdict(one) for domain, one in outcomes.items()}
            for number, outcomes in found.judged.items()
        },
        "folder": str(found.folder),
    }


def _print(wanted: MergeSearch, found: Found, files: list[Path]) -> None:
    from mmgrid.cli import draw
    from mmgrid.cli.numbers import Interval

    domains, keys = wanted.domains, [one.key for one in wanted.ranges]
    metric = wanted.metric.name
    columns = ("trial", *keys, *(f"{domain}: {metric} chosen" for domain in domains), "least kept chosen %")
    columns += (*(f"{domain}: {metric} judged" for domain in domains), "least kept judged %")
    rows = []
    for trial in sorted(found.front, key=lambda trial: trial.number != found.best.number):
        judged = found.judged[trial.number]
        chosen = [100 * trial.quality[domain] / found.own[domain] for domain in domains if found.own[domain] > 0]
        rows.append(
            (
                f"{trial.number}{' (best)' if trial.number == found.best.number else ''}",
                *(trial.values[key] for key in keys),
                *(trial.quality[domain] for domain in domains),
                min(chosen, default=100.0),
                *(Interval(judged[domain].value, judged[domain].low, judged[domain].high) for domain in domains),
                min(judged[domain].kept for domain in domains),
            )
        )
    own = found.judged[-1]
    blank = [""] * len(keys)
    ends = [Interval(own[domain].value, own[domain].low, own[domain].high) for domain in domains]
    rows.append(("own models", *blank, *(found.own[domain] for domain in domains), 100.0, *ends, 100.0))
    draw.print_table(
        f"{wanted.merge.name} of {wanted.paradigm}: the Pareto front of {len(found.trials):,} trials", columns, rows
    )
    draw.say(
        "best: the trial whose least share kept is largest on the half of the users that chose; the other half judges"
    )
    if failed := [trial for trial in found.trials if trial.problem]:
        draw.say(f"{len(failed):,} of {len(found.trials):,} trials are no merge; the first: {failed[0].problem}")
    draw.say(f"trials: {found.folder}")
    for file in files:
        draw.say(f"{file}: the best merge as a recipe")
