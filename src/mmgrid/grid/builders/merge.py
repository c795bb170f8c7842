"""`merge/<paradigm>/<recipe>`: several checkpoints as one, in memory for a score or on disk to be kept."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgrid.grid.builders.job import Job
from mmgrid.merging import Blocks, BlockTable, TensorFolder, get_method, merge, merge_state_dicts
from mmgrid.merging.models.token_blocks import BACKBONE, Action

StateDict = Mapping[str, Tensor]


def build(job: Job) -> Mapping[str, Any]:
    recipe, out = job.recipe, job.folder / "merged"
    method = get_method(recipe["method"])
    report = merge(
        {
            "method": method.name,
            "sources": [
                {"name": domain, "path": str(folder), "weight": recipe["weights"][domain]}
                for domain, folder in job.roles("source").items()
            ],
            "base": None if method.base == "none" else str(job.upstream("base")),
            "scale": recipe["scale"],
            "seed": recipe["seed"],
            "options": recipe["options"],
        },
        out,
        place=job.store.folder(job.cell.address),
    )
    for path in out.iterdir():  # the cell itself is the model's folder
        path.rename(job.folder / path.name)
    out.rmdir()
    return {"tensors": len(report.merged), "bytes": report.bytes_written}


def merged_weights(
    recipe: Mapping[str, Any], sources: Mapping[str, Path], base: Path | StateDict, *, keep: str
) -> dict[str, Tensor]:
    """The state dict of a merge that is scored and not kept.

    recipe: method, weights, seed, options, and scale (default 1).  base: its folder, or the model itself.
    keep: the source whose own token rows the result has, where sources have any; those of the others are left out.
    """
    method = get_method(recipe["method"])
    with ExitStack() as stack:
        opened = {name: stack.enter_context(TensorFolder(folder)) for name, folder in sources.items()}
        below = stack.enter_context(TensorFolder(base)) if isinstance(base, Path) else base
        return merge_state_dicts(
            method,
            opened,
            base=None if method.base == "none" else below,
            weights=recipe.get("weights"),
            scale=recipe.get("scale", 1.0),
            seed=recipe.get("seed", 0),
            blocks=_blocks(sources, base if method.base != "none" and isinstance(base, Path) else None, keep),
            **recipe.get("options", {}),
        )


def neutral_base(sources: Mapping[str, Path]) -> dict[str, Tensor]:
    """The average of checkpoints, eq. 8, of the backbone's token rows alone."""
    tables = _tables(sources)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(TensorFolder(folder)) for name, folder in sources.items()}
        rules: dict[str, Action] = {BACKBONE: "merge", "*": "drop"}
        return merge_state_dicts("linear", opened, blocks=Blocks(tables, min(sources), rules) if tables else None)


def _blocks(sources: Mapping[str, Path], base: Path | None, keep: str) -> Blocks | None:
    """The backbone's token rows are merged, those of codes are kept from `keep`, and the rest is left out.

    So it is with a codebook that the sources share, too: a base knows no codes, and methods with one and without must
    differ in the method alone.
    """
    tables = _tables(sources)
    if not tables:
        return None
    rules: dict[str, Action] = dict.fromkeys((block.name for block in tables[keep].blocks), "keep")
    rules |= {BACKBONE: "merge", "*": "drop"}
    return Blocks(tables, keep, rules, BlockTable.read(base) if base else None)


def _tables(sources: Mapping[str, Path]) -> dict[str, BlockTable]:
    found = {name: BlockTable.read(folder) for name, folder in sources.items()}
    return {name: table for name, table in found.items() if table is not None}
