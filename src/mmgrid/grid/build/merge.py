"""`merge/<paradigm>/<recipe>`: several checkpoints as one, in memory for a score or on disk to be kept."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgrid.grid.build.job import Job
from mmgrid.merging import TensorFolder, get_method, merge, merge_state_dicts


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


def merged_weights(recipe: Mapping[str, Any], sources: Mapping[str, Path], base: Path) -> dict[str, Tensor]:
    """The state dict of a merge that is scored and not kept."""
    method = get_method(recipe["method"])
    with ExitStack() as stack:
        opened = {name: stack.enter_context(TensorFolder(folder)) for name, folder in sources.items()}
        base_tensors = stack.enter_context(TensorFolder(base))
        return merge_state_dicts(
            method,
            opened,
            base=None if method.base == "none" else base_tensors,
            weights=recipe["weights"],
            scale=recipe["scale"],
            seed=recipe["seed"],
            **recipe["options"],
        )
