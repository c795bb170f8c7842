"""The command `extract-lora`: writes the difference of two models as a LoRA adapter."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from mmgrid.cli.completion import cells
from mmgrid.cli.folders import Folders
from mmgrid.cli.merge_arguments import Workers
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridOfCells, Settings, StoreRoot


def extract_lora(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The fine-tuned model: a folder, a name on the Hub, or a cell.")
    ],
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="The model that it was trained from.", autocompletion=cells)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The new folder.")],
    rank: Annotated[int, typer.Option(metavar="N", min=1, help="The largest rank of a tensor.")] = 32,
    energy: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Keep the fewest ranks that hold this share of each tensor's squared change."
        ),
    ] = None,
    ranks: Annotated[
        list[str] | None,
        typer.Option(
            "--ranks", metavar="PATTERN=N", help="Another largest rank for some tensors, e.g. '*.mlp.*=8'; repeat."
        ),
    ] = None,
    search: Annotated[
        str,
        typer.Option(metavar="auto|exact|randomised", help="How the largest directions of a matrix are found."),
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Type of the adapter: float32, bfloat16 or float16.")
    ] = "float32",
    workers: Workers = None,
    grid: GridOfCells = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the difference of a model and its base as a LoRA adapter."""
    from mmgrid.cli import draw
    from mmgrid.merging.extract_lora import extract_lora as run
    from mmgrid.quantities import duration, size

    folder = Folders(grid, store, settings)
    if search not in ("auto", "exact", "randomised"):
        raise typer.BadParameter(f"{search}: must be auto, exact or randomised", param_hint="--search")
    with draw.Bytes("reading", hidden=as_json) as bar:
        report = run(
            folder(model),
            folder(base),
            out,
            rank=rank,
            energy=energy,
            ranks=_ranks(ranks or []),
            search=search,  # type: ignore[arg-type]
            dtype=dtype,
            workers=workers,
            progress=bar,
        )
    if as_json:
        tensors = {name: vars(each) for name, each in report.tensors.items()}
        facts: dict[str, Any] = {"out": str(report.out), "error": report.error, "seconds": report.seconds}
        facts |= {"bytes_written": report.bytes_written, "left_out": dict(report.left_out)}
        draw.print_json(facts | {"tensors": tensors})
        return
    found = [each for each in report.tensors.values() if each.rank]
    low = min((each.rank for each in found), default=0)
    high = max((each.rank for each in found), default=0)
    span = f"rank {low}" if low == high else f"ranks {low} to {high}"
    whole = len(report.tensors) - len(found) - len(report.left_out)
    parts = [f"{len(found):,} matrices, {span}"] + ([f"{whole:,} tensors kept whole"] if whole else [])
    draw.say(f"{report.out}: {', '.join(parts)}, {size(report.bytes_written)} in {duration(report.seconds)}")
    for name, why in report.left_out.items():
        draw.say(f"left out {name}: {why}")
    draw.say(f"relative error {_share(report.error)} of the change ({1 - report.error**2:.1%} of its square is kept)")


def _share(error: float) -> str:
    return f"{error:.2g}" if error and math.isfinite(error) else "0"


def _ranks(texts: list[str]) -> dict[str, int]:
    found = {}
    for text in texts:
        pattern, _, number = text.rpartition("=")
        if not pattern or not number.isdecimal() or not int(number):
            raise typer.BadParameter(f"{text}: must be PATTERN=N, e.g. '*.mlp.*=8'", param_hint="--ranks")
        found[pattern] = int(number)
    return found
