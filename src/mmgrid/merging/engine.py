"""Merging itself: read in any floating-point type, compute in float32, round once.

Two ways in, one arithmetic: `merge_state_dicts` takes tensors in memory, `merge` streams folders tensor by
tensor, so that its memory is that of the largest tensor times the number of sources. Sums run in the order
of the sources' names, so the order in which somebody lists them changes no bit.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmgrid.files import clear_disk_errors
from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.methods import Method, get_method
from mmgrid.merging.output import (
    KEPT,
    MergeReport,
    check_outside,
    copy_companions,
    digests_of,
    joint_digest,
    working,
    write_record,
)
from mmgrid.merging.plan import Plan, Tensors, plan_merge
from mmgrid.merging.recipe import MergeRecipe
from mmgrid.merging.tensors import WEIGHTS_FILE, TensorFolder, TensorInfo, TensorWriter

Progress = Callable[[int, int, str], None]
BASE = "(base)"


@dataclass(frozen=True)
class _Job:
    """A merge whose names, numbers and options have been checked. `sources` and `weights` sorted by name."""

    method: Method
    options: dict[str, Any]
    sources: dict[str, Tensors]
    weights: list[float]
    base: Tensors | None
    scale: float


def merge_state_dicts(
    method: str | Method,
    sources: Mapping[str, Tensors],
    *,
    base: Tensors | None = None,
    weights: Mapping[str, float] | None = None,
    scale: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype | None = torch.float32,
    **options: Any,
) -> dict[str, Tensor]:
    """Merge models that are in memory.

    Args:
        method: a name in `METHODS`, or a method.
        sources: name of the source → its tensors by name. Not changed.
        base: the tensors of θ₀; required by methods of task vectors, refused by methods that have none.
        weights: name of the source → wᵢ; who is not named has 1.
        scale: λ, the factor on the delta.
        seed: for methods that draw.
        dtype: type of the merged tensors; None for the widest among the sources, float32 at most.
        options: the method's own.

    Returns:
        All tensors of the sources by name, sorted, on the sources' device, sharing no memory with them.
        Tensors that are tied in all sources (and the base) are tied in the result.

    Raises:
        MergeError: method, options, weights or tensors do not fit; names the tensor and the source.
    """
    job = _job(method, sources, base, weights, scale, seed, options)
    plan = plan_merge(job.sources, job.base, dtype)
    merged: dict[str, Tensor] = {}
    seen: dict[tuple[Any, ...], str] = {}
    with torch.no_grad():
        for name, info in sorted({**plan.merged, **plan.kept}.items()):
            place = _place(job, name)
            twin = seen.setdefault((info.dtype, place), name) if place else name
            merged[name] = merged[twin] if twin != name else _result(job, plan, name, info)
    return merged


def merge(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path, out: str | Path, *, progress: Progress | None = None
) -> MergeReport:
    """Merge model folders into a new one.

    Args:
        recipe: what to merge; a recipe, a dict, or a JSON file.
        out: the new folder; absent or empty. Appears whole or not at all.
        progress: called after each tensor with bytes written, bytes in all, and the tensor's name.

    Returns:
        What was merged, kept and dropped. The folder holds `model.safetensors`, config and tokenizer of the
        first source, and `mmgrid.json` with the recipe, the sources' digests and the report.

    Raises:
        MergeError: recipe, sources or output folder do not fit.
        DiskFull, NotWritableError: the output cannot be written.
    """
    clock = time.monotonic()
    recipe, out = MergeRecipe.load(recipe).anchored(), Path(out).absolute()
    paths = {str(source.name or source.path): source.path for source in recipe.sources}
    check_outside(out, {**paths, **({BASE: recipe.base} if recipe.base else {})})
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(TensorFolder(source.path)) for source in recipe.sources]
        base = stack.enter_context(TensorFolder(recipe.base)) if recipe.base is not None else None
        digests = [digests_of(folder) for folder in folders]
        recipe = _named(recipe, digests)
        names = [str(source.name) for source in recipe.sources]
        weights = {str(source.name): source.weight for source in recipe.sources}
        sources = dict(zip(names, folders, strict=True))
        job = _job(recipe.method, sources, base, weights, recipe.scale, recipe.seed, recipe.options)
        recipe = recipe.model_copy(update={"options": job.options})
        dtype = None if recipe.dtype == "source" else getattr(torch, recipe.dtype)
        plan = plan_merge(job.sources, job.base, dtype)
        with clear_disk_errors(out, remedy="give another output folder"), working(out) as work:
            read, written = _stream(job, plan, work, progress)
            types = {str(info.dtype).removeprefix("torch.") for info in plan.merged.values()}
            copy_companions(recipe.sources[0].path, work, types.pop() if len(types) == 1 else None)
            base_digests = None if base is None else digests_of(base)
            write_record(work, recipe, dict(zip(names, digests, strict=True)), base_digests, plan)
            for folder in [*folders, *([base] if base is not None else [])]:
                folder.check_unchanged()
    return MergeReport(
        out=out,
        merged=tuple(plan.merged),
        kept=dict.fromkeys(plan.kept, KEPT),
        dropped=plan.dropped,
        parameters=sum(math.prod(info.shape) for info in plan.merged.values()),
        bytes_read=read,
        bytes_written=written,
        seconds=time.monotonic() - clock,
    )


def _job(
    method: str | Method,
    sources: Mapping[str, Tensors],
    base: Tensors | None,
    weights: Mapping[str, float] | None,
    scale: float,
    seed: int,
    options: Mapping[str, Any],
) -> _Job:
    method = get_method(method) if isinstance(method, str) else method
    resolved = method.resolve(options)
    if not sources:
        raise MergeError(f"{method.name}: there are no sources to merge")
    if method.base == "required" and base is None:
        raise MergeError(f"{method.name}: needs a base, the model that the sources were trained from")
    if method.base == "none" and base is not None:
        raise MergeError(f"{method.name}: has no base; leave it out, or use a method of task vectors")
    if method.returns == "weights" and scale != 1.0:
        raise MergeError(f"{method.name}: has no delta for scale = {scale} to act on; use weights")
    for name in weights or {}:
        if name not in sources:
            raise MergeError(f"weights: there is no source {name!r}{nearest(name, sources)}; known: {listing(sources)}")
    numbers = {"scale": scale, **{f"weight of {name!r}": value for name, value in (weights or {}).items()}}
    for what, number in numbers.items():
        if not math.isfinite(number):
            raise MergeError(f"{method.name}: {what} is {number}; it must be a finite number")
    if seed < 0:
        raise MergeError(f"{method.name}: seed is {seed}; it must be 0 or more")
    ordered = {name: sources[name] for name in sorted(sources)}
    shares = [float((weights or {}).get(name, 1.0)) for name in ordered]
    return _Job(method, resolved, ordered, shares, base, float(scale))


def _stream(job: _Job, plan: Plan, work: Path, progress: Progress | None) -> tuple[int, int]:
    """Compute and write all tensors; bytes read and written."""
    infos = {**plan.merged, **plan.kept}
    sizes = {name: math.prod(info.shape) * info.dtype.itemsize for name, info in infos.items()}
    total, read, written = sum(sizes.values()), 0, 0
    with torch.no_grad(), TensorWriter(work / WEIGHTS_FILE, infos) as writer:
        for name in sorted(infos):
            writer.write(name, _result(job, plan, name, infos[name]))
            read += _bytes_in(job, name)
            written += sizes[name]
            if progress is not None:
                progress(written, total, name)
    return read, written


def _result(job: _Job, plan: Plan, name: str, info: TensorInfo) -> Tensor:
    return _kept(job, name) if name in plan.kept else _merged(job, name, info.dtype)


def _merged(job: _Job, name: str, dtype: torch.dtype) -> Tensor:
    """One merged tensor, rounded to `dtype`; shares no memory with its sources."""
    tensors = [_in_float32(source, name, held[name]) for source, held in job.sources.items()]
    if job.method.returns == "weights":
        return _rounded(name, job.method(tensors, job.weights, **job.options), dtype)
    assert job.base is not None
    base = _in_float32(BASE, name, job.base[name])
    if job.scale == 0:  # not base + 0 · Δ, which turns -0.0 into 0.0
        return _rounded(name, base.clone(), dtype)
    for position, tensor in enumerate(tensors):
        tensors[position] = tensor - base
    delta = job.method(tensors, job.weights, **job.options)
    return _rounded(name, base + delta * job.scale, dtype)


def _kept(job: _Job, name: str) -> Tensor:
    (first_name, first), *others = ((source, held[name]) for source, held in job.sources.items())
    for other_name, other in others:
        if not torch.equal(first, other):
            raise MergeError(
                f"tensor {name}: whole numbers cannot be averaged, and {first_name!r} and {other_name!r} differ in it"
            )
    return first.detach().clone()


def _in_float32(source: str, name: str, tensor: Tensor) -> Tensor:
    exact = tensor.detach().to(torch.float32)
    if exact.numel():
        low, high = (bound.item() for bound in torch.aminmax(exact))
        if not (math.isfinite(low) and math.isfinite(high)):
            what = "NaN" if math.isnan(low) else "an infinity"
            where = "the base" if source == BASE else f"source {source!r}"
            raise MergeError(f"tensor {name}: {where} holds {what}: its training failed, or a file is damaged")
    return exact


def _rounded(name: str, result: Tensor, dtype: torch.dtype) -> Tensor:
    if result.numel():
        low, high = (bound.item() for bound in torch.aminmax(result))
        limit = torch.finfo(dtype).max
        if not (-limit <= low and high <= limit):  # also catches NaN
            raise MergeError(
                f"tensor {name}: the merged values ({low:.4g} to {high:.4g}) do not fit {dtype} (at most "
                f"{limit:.4g}); choose a wider dtype or smaller weights"
            )
    return result.to(dtype)


def _place(job: _Job, name: str) -> tuple[Any, ...] | None:
    """Where a tensor lies in memory, in all sources and the base; equal for names that are tied everywhere."""
    held = [*job.sources.values(), *([job.base] if job.base is not None and name in job.base else [])]
    if any(isinstance(tensors, TensorFolder) for tensors in held):
        return None
    found = [tensors[name] for tensors in held]
    if any(tensor.is_meta or not tensor.numel() for tensor in found):
        return None
    return tuple((tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) for tensor in found)


def _bytes_in(job: _Job, name: str) -> int:
    held: list[Tensors] = list(job.sources.values())
    if job.base is not None and name in job.base:
        held.append(job.base)
    total = 0
    for tensors in held:
        assert isinstance(tensors, TensorFolder)
        info = tensors.info(name)
        total += math.prod(info.shape) * info.dtype.itemsize
    return total


def _named(recipe: MergeRecipe, digests: list[dict[str, dict[str, Any]]]) -> MergeRecipe:
    """The recipe with a name for every source: where none is given, the digest of its weights."""
    sources = tuple(
        source if source.name else source.model_copy(update={"name": joint_digest(files)})
        for source, files in zip(recipe.sources, digests, strict=True)
    )
    names = [str(source.name) for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise MergeError(f"two sources have the same weights ({name}); give each a name if that is meant")
    return recipe.model_copy(update={"sources": sources})
