"""The command `predictors`: what predicts the best λ of a domain, or of a year, that was left out."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, Settings, StoreRoot


def predictors(
    grids: Annotated[
        list[Path], typer.Argument(metavar="GRID…", help="Grid files, such as one for each of several years.")
    ],
    paradigm: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: the first with a study of λ in every grid.")
    ] = None,
    group: Annotated[
        str, typer.Option(metavar="USERS", help="Users whose best λ counts: all, active or non_active.")
    ] = "all",
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Compare what predicts the best λ of a domain, or of a year, that was left out.

    Reads the evaluations of the study `temporal` (or `recency`, `advise`) of each grid, which must be built. The
    settings hold for all grids.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.cli.study_views import print_study_table
    from mmgrid.evaluation import GROUPS
    from mmgrid.grid.standing.scale_cases import scale_cases, swept_paradigms
    from mmgrid.studies.scale_predictors import answer, evidence

    if group not in GROUPS:
        raise typer.BadParameter(f"{group}: must be one of {', '.join(GROUPS)}", param_hint="--group")
    sessions = [Session.open(grid, store, settings, must_exist=True) for grid in grids]
    swept = [swept_paradigms(session) for session in sessions]
    shared = [name for name in swept[0] if all(name in names for names in swept)]
    if paradigm is None and not shared:
        raise ValueError(
            'no paradigm has a study of λ in every grid; add [[studies]] with kind = "temporal", or name --paradigm'
        )
    chosen = paradigm or shared[0]
    tables = answer(case for session in sessions for case in scale_cases(session, chosen, group))
    if as_json:
        draw.print_json({table: frame.to_dicts() for table, frame in tables.items()})
        return
    for table in ("facts", "predictors"):
        print_study_table(table, tables[table], tables[table].to_dicts())
    for sentence in evidence(tables):
        draw.say(sentence)
