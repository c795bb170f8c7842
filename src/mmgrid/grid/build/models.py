"""The model that an evaluation asks: a checkpoint, a merge in memory, or a point on a line between models.

The line of a sweep is read once and kept: its next point is a walk of the live model (see `Cell.family`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmgrid.grid.build.job import Job
from mmgrid.grid.build.merge import merged_weights
from mmgrid.grid.fingerprint import canonical
from mmgrid.merging import Line, TensorFolder, merge_state_dicts
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.registry import open_checkpoint
from mmgrid.studies.base_model import NEUTRAL

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Walk:
    """A paradigm, and the line that its live model walks on."""

    key: tuple[Any, ...]
    paradigm: Paradigm
    line: Line


_kept: list[_Walk] = []  # one at most: models are large


def evaluated_model(job: Job) -> tuple[Paradigm, nn.Module]:
    """The paradigm and the model of an evaluation, on the device on which it is asked."""
    if "line" in job.recipe:
        walk = _walk(job)
        return walk.paradigm, walk.line.at(job.recipe["line"]["at"])
    _kept.clear()
    sources = job.roles("source")
    folder: Path = job.upstream("model") if "model" in job.cell.upstream else next(iter(sources.values()))
    paradigm, model = open_checkpoint(folder, job.recipe["paradigm"])
    if "model" not in job.cell.upstream:
        model.load_state_dict(merged_weights(job.recipe["merge"], sources, job.upstream("base")))
    return paradigm, model.to(device())


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _walk(job: Job) -> _Walk:
    line = {name: value for name, value in job.recipe["line"].items() if name != "at"}
    folders = {role: job.upstream(role) for role in sorted(job.cell.upstream) if role != "corpus"}
    key = (canonical(line), *folders.items())
    if not _kept or _kept[0].key != key:
        _kept.clear()  # before the next one is read
        paradigm, line_ = (
            temporal_line(folders, job.recipe["paradigm"]) if line["kind"] == "temporal" else _base_line(job, line)
        )
        _kept.append(_Walk(key, paradigm, line_))
    return _kept[0]


def temporal_line(folders: Mapping[str, Path], name: str) -> tuple[Paradigm, Line]:
    """Θ(t1) + λ (Θ(t2) − Θ(t1)), eq. 10, from the folders `start` and `end` of a paradigm."""
    paradigm, model = open_checkpoint(folders["start"], name)
    _, newest = open_checkpoint(folders["end"], name)
    return paradigm, _line(model, newest.state_dict())


def _base_line(job: Job, line: Mapping[str, Any]) -> tuple[Paradigm, Line]:
    """Θ⁽⁰⁾′ + α TRIM(τ′ᵢ) + (1 − α) TRIM(τ′ⱼ), eq. 7: linear in α, as the weights stand outside of the trim."""
    sources, below = job.roles("source"), job.roles("base")
    paradigm, model = open_checkpoint(sources[line["first"]], job.recipe["paradigm"])
    with ExitStack() as stack:
        opened = {name: stack.enter_context(TensorFolder(folder)) for name, folder in sources.items()}
        base: Weights | TensorFolder
        if line["base"] == NEUTRAL:  # eq. 8
            old = {name: stack.enter_context(TensorFolder(folder)) for name, folder in below.items()}
            base = merge_state_dicts("linear", old)
        else:
            folder = next(iter(below.values())) if below else job.upstream("base")
            base = stack.enter_context(TensorFolder(folder))

        def end(first: float) -> Weights:
            weights = {line["first"]: first, line["second"]: 1 - first}
            return merge_state_dicts(
                line["method"], opened, base=base, weights=weights, seed=line["seed"], **line["options"]
            )

        model.load_state_dict(dict(end(0.0)))
        return paradigm, _line(model, end(1.0))


def _line(model: nn.Module, end: Weights) -> Line:
    """From the live model to other weights."""
    model.to(device())
    start = model.state_dict()
    steps = {
        name: end[name].to(tensor.device).float() - tensor.float()
        for name, tensor in start.items()
        if tensor.is_floating_point()
    }
    return Line(model, steps)
