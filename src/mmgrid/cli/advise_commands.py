"""The command `advise`: predicts λ for a deployment without labels."""

from typing import Annotated, Any

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Settings, StoreRoot


def advise(
    grid: GridFile,
    domain: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this domain; repeat. Default: all.")
    ] = None,
    paradigm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Paradigm whose λ* of other domains are used. Default: the last with a recency study."
        ),
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Predict the best λ from the data alone, without labels.

    Uses the prepared data of each domain, which is built if it is missing, and the best λ of other domains: from the
    grid's recency study if it has at least three other domains, else from Table 4 of the paper.
    """
    import dataclasses

    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.grid.standing.predicted_scales import predicted_scales
    from mmgrid.runners import run_local

    session = Session.open(grid, store, settings)
    unknown = [name for name in domain or () if name not in session.grid.spec.data.domains]
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: the grid has {', '.join(session.grid.spec.data.domains)}", param_hint="--domain"
        )
    known = dict.fromkeys([*session.grid.spec.paradigms, *(one.paradigm for one in session.grid.spec.checkpoints)])
    studied = [cell.key[1] for cell in session.cells if cell.kind == "study" and cell.key[0] == "recency"]
    paradigm = paradigm or (studied or list(known))[-1]
    if paradigm not in known:
        raise typer.BadParameter(f"{paradigm}: the grid has {', '.join(known)}", param_hint="--paradigm")
    domains = domain or session.grid.spec.data.domains
    corpora = session.chosen([f"corpus/{name}" for name in domains])
    outcome = run_local(corpora, session.grid, session.store)
    if not outcome.complete:
        raise ValueError("; ".join(f"{name}: {problem}" for name, problem in outcome.failed.items()))
    found = predicted_scales(session.cells, session.store, session.grid, domains, paradigm)
    if as_json:
        draw.print_json([_plain(dataclasses.asdict(one), one) for one in found])
        return
    for predicted in found:
        draw.say((predicted.domain, "bold"), f": λ̂ = {predicted.scale:.3f}")
        draw.say(f"  mean interaction time gap before t2: {predicted.gap_days:.1f} days")
        draw.say(f"  active users one phase earlier: {100 * predicted.active_ratio:.1f} %")
        for sentence in predicted.sentences():
            draw.say(f"  {sentence}")


def _plain(values: dict[str, Any], predicted: Any) -> dict[str, Any]:
    return values | {"extrapolates": predicted.extrapolates, "trust": predicted.sentences()}
