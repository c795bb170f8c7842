"""`merge/<paradigm>/<recipe>`: merges checkpoints, in memory for an evaluation or on disk to be kept."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgrid.merging import Blocks, BlockTable, TensorFolder, get_method, merge, merge_state_dicts
from mmgrid.merging.models.token_blocks import BACKBONE
from mmgrid.merging.plan.block_layout import Action

StateDict = Mapping[str, Tensor]


def merge_to_folder(
    recipe: Mapping[str, Any], sources: Mapping[str, Path], base: Path | None, folder: Path, *, final_place: Path
) -> Mapping[str, Any]:
    """Merge checkpoints into `folder`.

    recipe: method, weights, scale, seed, options. final_place: the final path of the folder, for relative paths.
    """
    out = folder / "merged"
    method = get_method(recipe["method"])
    # Keep the token rows of every domain's codes, so that the merge can recommend for all of its domains.
    apart = {"blocks": {BACKBONE: "merge", "*": "keep_all"}} if _tables(sources) else {}
    report = merge(
        {
            "method": method.name,
            "sources": [
                {"name": name, "path": str(source), "weight": recipe["weights"][name]}
                for name, source in sources.items()
            ],
            "base": None if method.base == "none" else str(base),
            "scale": recipe["scale"],
            "seed": recipe["seed"],
            "options": recipe["options"],
            **apart,
        },
        out,
        place=final_place,
    )
    for path in out.iterdir():  # the cell itself is the model's folder
        path.rename(folder / path.name)
    out.rmdir()
    return {"tensors": len(report.merged), "bytes": report.bytes_written}


def merged_weights(
    recipe: Mapping[str, Any], sources: Mapping[str, Path], base: Path | StateDict | None, *, keep: str
) -> dict[str, Tensor]:
    """The state dict of a merge that is evaluated and not kept.

    recipe: method, weights, seed, options, and scale (default 1).
    base: the folder of the base, or its weights.
    keep: the source whose token rows for codes the result contains, if sources have any; those of others are dropped.
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
    """The average of checkpoints, eq. 8, with only the backbone's token rows."""
    tables = _tables(sources)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(TensorFolder(folder)) for name, folder in sources.items()}
        rules: dict[str, Action] = {BACKBONE: "merge", "*": "drop"}
        return merge_state_dicts("linear", opened, blocks=Blocks(tables, min(sources), rules) if tables else None)


def _blocks(sources: Mapping[str, Path], base: Path | None, keep: str) -> Blocks | None:
    """Merge the backbone's token rows, keep the rows for codes of the source `keep`, and drop the rest.

    This includes the rows of a shared codebook: a base has no rows for codes, and methods with and without a base
    must differ only in the method.
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
