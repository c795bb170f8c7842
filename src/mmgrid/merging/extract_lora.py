"""Writes the difference of two models as a LoRA adapter: B A ≈ θ − θ₀ for every matrix, by its largest directions.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, https://arxiv.org/abs/2106.09685;
the best B A of rank r is the truncated singular value decomposition (Eckart and Young 1936).
"""

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmgrid.files import name_of
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.extraction import ExtractedTensor, Extraction, Search, Wanted, module_of
from mmgrid.merging.engine.progress import ByteCounter, MergeProgress
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.sources import found, open_source
from mmgrid.merging.models.ties import one_form
from mmgrid.merging.models.token_tensors import holds_vocabulary
from mmgrid.merging.output.adapter import Adapter, write_adapter
from mmgrid.merging.output.folder import check_free, check_outside

ADAPTER_TYPES = frozenset({"float32", "bfloat16", "float16"})


@dataclass(frozen=True)
class ExtractReport:
    """An adapter that was written.

    Attributes:
        out: its folder.
        tensors: name → what the adapter holds of it, for all tensors that differ.
        left_out: name → why it is not in the adapter, for tensors that differ.
        bytes_written: size of the adapter's weights.
    """

    out: Path
    tensors: Mapping[str, ExtractedTensor]
    left_out: Mapping[str, str]
    bytes_written: int
    seconds: float

    @property
    def error(self) -> float:
        """‖θ − θ₀ − BA‖ / ‖θ − θ₀‖ over all tensors, those that are left out included."""
        total = sum(each.norm**2 for each in self.tensors.values())
        missing = sum((1 - each.energy) * each.norm**2 for each in self.tensors.values())
        return float(np.sqrt(max(missing, 0.0) / total)) if total else 0.0


def extract_lora(
    model: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    rank: int = 32,
    energy: float | None = None,
    ranks: Mapping[str, int] | None = None,
    search: Search = "auto",
    dtype: str = "float32",
    workers: int | None = None,
    progress: MergeProgress | None = None,
) -> ExtractReport:
    """Write the difference of a fine-tuned model and its base as a LoRA adapter of PEFT.

    Matrices become B A; other tensors that differ (norms, biases of norms), and vocabularies that were resized, are kept
    whole, as `modules_to_save`. Two tensors at a time are in memory for each thread, and the adapter.

    Args:
        model, base: folders, safetensors files, or names on the Hub.
        out: the adapter's folder; must be absent or empty.
        rank: the largest rank of a tensor.
        energy: the share of each tensor's ‖θ − θ₀‖² to hold, over 0, at most 1; the smallest such rank is taken, up to
            `rank`.
        ranks: pattern of tensor names, such as `*.mlp.*` → the largest rank there, instead of `rank`.
        search: "exact" decomposes every matrix, "randomised" searches for its largest directions, "auto" searches
            where that is faster.
        dtype: type of the adapter: float32, bfloat16 or float16.
        workers: number of threads; does not change the result. Default: one per core.
        progress: called after each tensor with bytes done, bytes in all, and the tensor's name.

    Raises:
        MergeError: the models do not fit each other or are equal, or a setting is wrong.
        FileExistsError: `out` is not empty.
    """
    clock = time.monotonic()
    wanted = _checked(Wanted(rank, energy, dict(ranks or {}), search), dtype)
    places = {"model": found(Path(model)), "base": found(Path(base))}
    target = Path(out).absolute()
    check_outside(target, list(places.values()))
    check_free(target)
    with contextlib.ExitStack() as stack:
        opened: dict[str, Source] = {
            name: stack.enter_context(open_source(path, base=places["base"])) for name, path in places.items()
        }
        models, _ = one_form(opened, {name: str(path) for name, path in places.items()}, apart=None)
        _check_fit(models["model"], models["base"])
        extraction = Extraction(models["model"], models["base"], wanted)
        names = sorted(name for name in models["model"] if name in models["base"] and _is_float(models, name))
        counter = ByteCounter({name: models["model"].info(name) for name in names}, progress)

        counting = threading.Lock()

        def take(name: str) -> None:
            extraction.take(name)
            with counting:
                counter.add(name)

        for_each(names, take, workers or default_workers())
        extraction.keep_namesakes()
        if not extraction.tensors and not extraction.report:
            raise MergeError(f"{model}: has the weights of {base}; there is nothing to extract")
        if not extraction.ranks:
            raise MergeError(
                f"{model}: differs from {base} in no matrix that LoRA has a place for, only in "
                f"{listing(extraction.report or extraction.whole)}; PEFT reads no adapter without one"
            )
        size = _write(extraction, places["base"], target, dtype)
        for source in opened.values():
            source.check_unchanged()
    order = sorted(extraction.report)
    return ExtractReport(
        target, {name: extraction.report[name] for name in order}, extraction.left_out, size, time.monotonic() - clock
    )


def extract_layers(
    model: Source,
    base: Source,
    out: Path,
    *,
    ranks: Mapping[str, tuple[int, float | None]],
    named: str,
    dtype: str,
    workers: int,
) -> Mapping[str, ExtractedTensor]:
    """Write an adapter for some linear layers of an open model; nothing is written if they equal those of the base.

    Args:
        out: the adapter's folder.
        ranks: layer → its largest rank, and the share of its squared change to hold.
        named: the base, as the adapter's configuration names it.
        dtype: type of the adapter: float32, bfloat16 or float16.
        workers: number of threads; does not change the result.

    Raises:
        MergeError: a layer holds NaN or an infinity, or its update does not fit `dtype`.
    """
    extraction = Extraction(model, base, Wanted(1, None, {}, "auto"))

    def take(name: str) -> None:
        rank, energy = ranks[name]
        extraction.take(name, Wanted(rank, energy, {}, "auto"))

    for_each(sorted(ranks), take, workers)
    if extraction.ranks:
        _write(extraction, Path(named), out, dtype, named)
    return extraction.report


def _checked(wanted: Wanted, dtype: str) -> Wanted:
    if min((wanted.rank, *wanted.ranks.values())) < 1:
        raise MergeError("rank: must be at least 1")
    if wanted.energy is not None and not 0 < wanted.energy <= 1:
        raise MergeError(f"energy: {wanted.energy:g} must be over 0 and at most 1")
    if dtype not in ADAPTER_TYPES:
        raise MergeError(f"dtype: {dtype!r} is not supported; known: float32, bfloat16, float16")
    return wanted


def _is_float(models: Mapping[str, Source], name: str) -> bool:
    return all(is_float(model.info(name).dtype) for model in models.values())


def _check_fit(model: Source, base: Source) -> None:
    lacking = set(model) ^ set(base)
    if lacking:
        where = "the base" if next(iter(sorted(lacking))) in model else "the model"
        raise MergeError(
            f"{where} lacks {listing(lacking)}; the base must be the model that the other was trained from"
        )
    for name in model:
        one, other = model.info(name), base.info(name)
        resized = holds_vocabulary(name) and one.shape[1:] == other.shape[1:]
        if one.shape != other.shape and not resized:
            raise MergeError(f"tensor {name}: shapes differ: model {list(one.shape)}, base {list(other.shape)}")


def _write(extraction: Extraction, base: Path, out: Path, dtype: str, named: str | None = None) -> int:
    """Write the adapter's folder; returns the size of its weights. named: the base in its configuration."""
    hub = name_of(base)
    adapter = Adapter(
        extraction.tensors,
        extraction.ranks,
        saved=sorted({module_of(name) for name in extraction.whole}),
        fan_in_fan_out=extraction.fan_in_fan_out,
        base=named or str(hub.repo if hub is not None else base.absolute()),
        hub=hub,
    )
    return write_adapter(adapter, out, dtype)
