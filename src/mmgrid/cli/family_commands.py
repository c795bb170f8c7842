"""The commands `expand` and `compress`, and `merge --family`: families of models, and the checkpoints in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.completion import cells
from mmgrid.cli.folders import Folders
from mmgrid.cli.merge_arguments import Workers
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridOfCells, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.families import FamilyReport
    from mmgrid.merging.models.family.file import PartEntry


def expand(
    family: Annotated[
        str,
        typer.Argument(metavar="FAMILY", help="The folder of a family, or the name of a cell.", autocompletion=cells),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The new folder.")],
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which checkpoint, if the family has several.")
    ] = None,
    shared: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The shared model, if it is not where the family says.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The base under masks, if it is not where the family says.")
    ] = None,
    digests: Annotated[
        bool, typer.Option("--digests/--no-digests", help="Check the digests of all files that are read.")
    ] = True,
    workers: Workers = None,
    grid: GridOfCells = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the plain checkpoint of one domain of a family."""
    from mmgrid.cli import draw
    from mmgrid.families import expand as run
    from mmgrid.quantities import duration, size

    folder = Folders(grid, store, settings)
    with draw.Bytes("writing", hidden=as_json) as bar:
        report = run(
            folder(family),
            out,
            domain=domain,
            shared=shared,
            base=base,
            workers=workers,
            progress=bar,
            digests=digests,
        )
    if as_json:
        draw.print_json({**vars(report), "out": str(report.out)})
        return
    exactly = "bit for bit" if not report.error else f"with an error of {report.error:.2g} of the change"
    draw.say(
        f"{report.out}: {report.domain}, {report.tensors:,} tensors, {size(report.bytes_written)} in "
        f"{duration(report.seconds)}, {exactly}"
    )


def compress(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A folder, a name on the Hub, or a cell.", autocompletion=cells)
    ],
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="The model that it was trained from.", autocompletion=cells)
    ],
    bits: Annotated[int, typer.Option(metavar="2|3|4|8", help="Bits per weight of the difference.")] = 4,
    group: Annotated[
        int | None, typer.Option(metavar="N", min=8, help="Weights that share a scale. Default: a row.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Lose nothing: every bit, compressed.")] = False,
    rank: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="A LoRA adapter of this rank for linear layers instead.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT", help="The new folder. Default: CHECKPOINT with -4bit and the like."),
    ] = None,
    workers: Workers = None,
    grid: GridOfCells = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Store a checkpoint as its difference from another model."""
    from mmgrid.cli import draw
    from mmgrid.families import compress as run

    if bits not in (2, 3, 4, 8):
        raise typer.BadParameter(f"{bits}: must be 2, 3, 4 or 8", param_hint="--bits")
    if exact and rank is not None:
        raise typer.BadParameter("takes every bit, so it goes with no rank", param_hint="--exact")
    part: dict[str, Any] = {"kind": "delta", "bits": bits, "group": group}
    called = f"{bits}bit"
    if exact or rank is not None:
        part, called = ({"kind": "exact"}, "exact") if exact else ({"kind": "low_rank", "rank": rank}, f"rank{rank}")
    folder = Folders(grid, store, settings)
    place = folder(checkpoint)
    target = out or Path(f"{Path(place).name}-{called}")
    with draw.Bytes("compressing", hidden=as_json) as bar:
        report = run(place, folder(base), target, part=part, workers=workers, progress=bar)
    show(report, as_json=as_json)


def merge_family(recipe: Path, out: Path, workers: int | None, digests: bool, as_json: bool) -> None:
    """Write a family by a recipe, and say what it takes."""
    from mmgrid.cli import draw
    from mmgrid.families import build

    with draw.Bytes("writing parts", hidden=as_json) as bar:
        report = build(recipe, out, workers=workers, progress=bar, digests=digests)
    show(report, as_json=as_json)


def show(report: FamilyReport, *, as_json: bool) -> None:
    """Print the bytes and the errors of a family."""
    from mmgrid.cli import draw
    from mmgrid.quantities import duration, size

    if as_json:
        draw.print_json(report_facts(report))
        return
    rows = [
        (name, _called(part), _tensor(part.worst), size(part.bytes), _share(part.error), _worst(part.worst))
        for name, domain in report.domains.items()
        for part in domain.parts
    ]
    draw.print_table("", ("domain", "part", "worst tensor", "bytes", "error", "worst"), rows, left=3)
    shared = f", the shared model {size(report.shared_bytes)}" if report.shared_bytes else ""
    draw.say(
        f"{report.out}: {size(report.bytes)}{shared}; plain checkpoints {size(report.plain_bytes)}; in "
        f"{duration(report.seconds)}"
    )
    for note in report.notes:
        draw.say(f"note: {note}")


def report_facts(report: FamilyReport) -> dict[str, Any]:
    """A report as JSON."""
    domains = {
        name: {**vars(domain), "parts": [part.model_dump(mode="json") for part in domain.parts]}
        for name, domain in report.domains.items()
    }
    facts = {"out": str(report.out), "bytes": report.bytes, "plain_bytes": report.plain_bytes, "domains": domains}
    return facts | {"shared_bytes": report.shared_bytes, "seconds": report.seconds, "notes": list(report.notes)}


def _called(part: PartEntry) -> str:
    """A part with its main options: `delta, 4 bits`."""
    options = part.options
    told = {
        "delta": f"{options.get('bits')} bits" + (f", group {options['group']}" if options.get("group") else ""),
        "mask": f"{options.get('rule')}",
        "low_rank": f"rank {options.get('rank')}",
    }
    return f"{part.kind}, {told[part.kind]}" if part.kind in told else part.kind


def _share(error: float) -> str:
    return f"{error:.2g}" if error else "0"


def _tensor(worst: tuple[str, float] | None) -> str:
    return "" if worst is None else worst[0]


def _worst(worst: tuple[str, float] | None) -> str:
    return "" if worst is None else _share(worst[1])
