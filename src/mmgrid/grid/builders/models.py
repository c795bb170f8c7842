"""The model that an evaluation asks: a checkpoint, a merge in memory, or a point on a line between models.

The line of a sweep is read once and kept: its next point is a walk of the live model (see `Cell.family`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmgrid.grid.builders.device import device
from mmgrid.grid.builders.job import Job
from mmgrid.grid.builders.merge import merged_weights, neutral_base
from mmgrid.grid.cells.fingerprint import canonical
from mmgrid.merging import BlockTable, Line, MergeError
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
    """The paradigm and the model of an evaluation, on the device on which it is asked.

    A merge of several domains is asked as the model of the one that is evaluated: with its prompts, and its codes.
    """
    if "line" in job.recipe:
        walk = _walk(job)
        return walk.paradigm, walk.line.at(job.recipe["line"]["at"])
    _kept.clear()
    domain, sources = job.recipe["domain"], job.roles("source")
    paradigm, model = _opened(job, job.upstream("model") if "model" in job.cell.upstream else sources[domain])
    if "model" not in job.cell.upstream:
        merged = merged_weights(job.recipe["merge"], sources, job.upstream("base"), keep=domain)
        _load(model, merged)
    return paradigm, model.to(device())


def _opened(job: Job, folder: Path) -> tuple[Paradigm, nn.Module]:
    """A checkpoint, and the paradigm that asks it as the evaluation's recipe says."""
    return open_checkpoint(folder, job.recipe["paradigm"], job.recipe.get("asked"))


def _walk(job: Job) -> _Walk:
    line = {name: value for name, value in job.recipe["line"].items() if name != "at"}
    folders = {role: job.upstream(role) for role in sorted(job.cell.upstream) if _is_model(role)}
    own_rows = job.recipe["domain"] if job.recipe["paradigm"] == "semid" else None  # else one line serves both domains
    key = (canonical(line), canonical(job.recipe.get("asked", {})), own_rows, *folders.items())
    if not _kept or _kept[0].key != key:
        _kept.clear()  # before the next one is read
        paradigm, line_ = _temporal_line(job) if line["kind"] == "temporal" else _base_line(job, line)
        _kept.append(_Walk(key, paradigm, line_))
    return _kept[0]


def _is_model(role: str) -> bool:
    return role != "corpus" and not role.startswith("asks:")


def _temporal_line(job: Job) -> tuple[Paradigm, Line]:
    folders = {role: job.upstream(role) for role in ("start", "end")}
    return temporal_line(folders, job.recipe["paradigm"], job.recipe.get("asked"))


def temporal_line(
    folders: Mapping[str, Path], name: str, asked: Mapping[str, Any] | None = None
) -> tuple[Paradigm, Line]:
    """Θ(t1) + λ (Θ(t2) − Θ(t1)), eq. 10, from the folders `start` and `end` of a paradigm.

    Raises MergeError where the two speak in different codebooks.
    """
    if BlockTable.read(folders["start"]) != BlockTable.read(folders["end"]):
        raise MergeError(f"{folders['start']} and {folders['end']}: their token rows are of different codebooks")
    paradigm, model = open_checkpoint(folders["start"], name, asked)
    _, newest = open_checkpoint(folders["end"], name)
    return paradigm, _line(model, newest.state_dict())


def _base_line(job: Job, line: Mapping[str, Any]) -> tuple[Paradigm, Line]:
    """Θ⁽⁰⁾′ + α TRIM(τ′ᵢ) + (1 − α) TRIM(τ′ⱼ), eq. 7: linear in α, as the weights stand outside of the trim."""
    domain, sources, below = job.recipe["domain"], job.roles("source"), job.roles("base")
    paradigm, model = _opened(job, sources[domain])
    if line["base"] == NEUTRAL:
        base: Path | Weights = neutral_base(below)
    else:
        base = next(iter(below.values())) if below else job.upstream("base")

    def end(first: float) -> Weights:
        weights = {line["first"]: first, line["second"]: 1 - first}
        return merged_weights({**line, "weights": weights}, sources, base, keep=domain)

    _load(model, end(0.0))
    return paradigm, _line(model, end(1.0))


def _load(model: nn.Module, weights: Weights) -> None:
    """Give a model merged weights; a head that is tied to the embeddings is not among them, and follows."""
    absent, unknown = model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    loaded = {tensor.data_ptr() for name, tensor in state.items() if name in weights}
    untied = [name for name in absent if state[name].data_ptr() not in loaded]
    if untied or unknown:
        raise MergeError(f"merged weights do not fit the model: it has {untied} beside them, and lacks {unknown}")


def _line(model: nn.Module, end: Weights) -> Line:
    """From the live model to other weights."""
    model.to(device())
    start = model.state_dict()
    steps = {
        name: end[name].to(tensor.device).float() - tensor.float()
        for name, tensor in start.items()
        if name in end and tensor.is_floating_point()
    }
    return Line(model, steps)
