"""Writes the difference of two models as a LoRA adapter: B A ≈ θ − θ₀ for every matrix, by its largest directions.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, https://arxiv.org/abs/2106.09685;
the best B A of rank r is the truncated singular value decomposition (Eckart and Young 1936).
"""

import contextlib
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mmgrid.files import name_of
from mmgrid.merging.arrays.floats import is_float, widen
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.progress import ByteCounter, MergeProgress
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.methods.linear_algebra import Directions, directions, leading_directions
from mmgrid.merging.models.adapter_names import ADAPTER_PREFIX
from mmgrid.merging.models.settings import CONV1D_TYPES, settings_of
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.sources import found, open_source
from mmgrid.merging.models.ties import implied, one_form
from mmgrid.merging.models.token_tensors import embeddings_in, holds_vocabulary
from mmgrid.merging.output.adapter import Adapter, write_adapter
from mmgrid.merging.output.folder import check_free, check_outside
from mmgrid.patterns import fits

Search = Literal["auto", "exact", "randomised"]
ADAPTER_TYPES = frozenset({"float32", "bfloat16", "float16"})
# Matrices that are looked up and not multiplied with, besides the tokens': PEFT has no LoRA for them under these names.
_LOOKED_UP = re.compile(
    r"(?:^|\.)(?:wpe|\w*position\w*|token_type_embeddings|relative_attention_bias|embed_tokens_per_layer)\.weight$"
)
_EXACT_UP_TO = 256  # smaller sides than this are decomposed exactly: the search would gain nothing
_WORTH = 4  # … and so are matrices of which more than a quarter of the directions is wanted
_FIRST_RANK = 16  # where a share of the energy is asked for, the search begins with so many directions


@dataclass(frozen=True)
class ExtractedTensor:
    """One tensor of an adapter.

    Attributes:
        rank: of its update; 0 for a tensor that is kept whole or left out.
        energy: share of ‖θ − θ₀‖² that the adapter holds, 0 to 1.
        norm: ‖θ − θ₀‖.
    """

    rank: int
    energy: float
    norm: float


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


@dataclass(frozen=True)
class _Wanted:
    rank: int
    energy: float | None
    ranks: Mapping[str, int]
    search: Search

    def most(self, name: str, shape: tuple[int, ...]) -> int:
        own = next((rank for pattern, rank in self.ranks.items() if fits(name, (pattern,))), self.rank)
        return min(own, *shape)


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
    wanted = _checked(_Wanted(rank, energy, dict(ranks or {}), search), dtype)
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
        extraction = _Extraction(models["model"], models["base"], wanted, dtype)
        names = sorted(name for name in models["model"] if name in models["base"] and _is_float(models, name))
        counter = ByteCounter({name: models["model"].info(name) for name in names}, progress)

        counting = threading.Lock()

        def take(name: str) -> None:
            extraction.take(name)
            with counting:
                counter.add(name)

        for_each(names, take, workers or default_workers())
        extraction.keep_namesakes()
        if not extraction.tensors:
            raise MergeError(f"{model}: has the weights of {base}; there is nothing to extract")
        if not extraction.ranks:
            raise MergeError(
                f"{model}: differs from {base} in no matrix that LoRA has a place for, only in "
                f"{listing(extraction.report)}; PEFT reads no adapter without one"
            )
        size = _write(extraction, places["base"], target)
        for source in opened.values():
            source.check_unchanged()
    order = sorted(extraction.report)
    return ExtractReport(
        target, {name: extraction.report[name] for name in order}, extraction.left_out, size, time.monotonic() - clock
    )


def is_linear(model: Source, name: str) -> bool:
    """Whether a tensor is the matrix of a linear layer, by its name and shape: not of tokens or positions."""
    if len(model.info(name).shape) != 2 or not name.endswith(".weight") or not _module(name):
        return False
    return not (holds_vocabulary(name) or _LOOKED_UP.search(name))


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
    extraction = _Extraction(model, base, _Wanted(1, None, {}, "auto"), dtype)

    def take(name: str) -> None:
        rank, energy = ranks[name]
        extraction.take(name, _Wanted(rank, energy, {}, "auto"))

    for_each(sorted(ranks), take, workers)
    if extraction.ranks:
        _write(extraction, Path(named), out, named)
    return extraction.report


def _checked(wanted: _Wanted, dtype: str) -> _Wanted:
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


class _Extraction:
    """The tensors of an adapter, as they are found. Threads may share it: each tensor is taken once."""

    def __init__(self, model: Source, base: Source, wanted: _Wanted, dtype: str) -> None:
        self.model, self.base, self.wanted, self.dtype = model, base, wanted, dtype
        self.tensors: dict[str, np.ndarray] = {}
        self.report: dict[str, ExtractedTensor] = {}
        self.left_out: dict[str, str] = {}
        self.whole: set[str] = set()
        self.ranks: dict[str, int] = {}
        self.fan_in_fan_out = str(settings_of(model.companions).get("model_type", "")) in CONV1D_TYPES
        self._embeddings = set(embeddings_in(model))
        self._twins: dict[str, list[str]] = {}
        for twin, first in implied(model).items():
            self._twins.setdefault(first, []).append(twin)

    def take(self, name: str, wanted: _Wanted | None = None) -> None:
        """Extract one tensor. wanted: of it, if it is not that of the adapter."""
        info = self.model.info(name)
        values = _values(self.model, name)
        if info.shape != self.base.info(name).shape:
            self._keep(name, values, float(np.linalg.norm(values.astype(np.float64))))
            return
        change = values.astype(np.float64) - _values(self.base, name)
        if not np.isfinite(change).all():
            raise MergeError(f"tensor {name}: holds NaN or an infinity")
        norm = float(np.linalg.norm(change))
        if not norm:
            return
        if reason := self._unwanted(name):
            self.left_out[name] = reason
            self.report[name] = ExtractedTensor(0, 0.0, norm)
            return
        if len(info.shape) != 2 or _LOOKED_UP.search(name):
            self._keep(name, values, norm)
            return
        kept = _largest(change, wanted or self.wanted, name, norm)
        root = np.sqrt(kept.sizes)
        up, down = kept.left * root, root[:, None] * kept.right
        if self._is_turned(name):
            up, down = down.T, up.T
        for place in (name, *self._twins.get(name, ())):  # PEFT adds to one of two tied tensors only
            stem = ADAPTER_PREFIX + place.removesuffix(".weight")
            if place in self._embeddings:  # PEFT adds (B A)ᵀ to embeddings
                pair = {f"{stem}.lora_embedding_A": up.T, f"{stem}.lora_embedding_B": down.T}
            else:
                pair = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
            self.tensors |= {key: np.ascontiguousarray(value, np.float32) for key, value in pair.items()}
            self.ranks[_module(place)] = len(kept.sizes)
        share = min(float(np.sum(np.square(kept.sizes))) / norm**2, 1.0)
        self.report[name] = ExtractedTensor(len(kept.sizes), share, norm)

    def _unwanted(self, name: str) -> str:
        """Why an adapter has no place for a tensor that differs; empty if it has."""
        if not _module(name):
            return "belongs to no module that PEFT could save"
        if name.endswith(".weight"):
            return ""
        weight = f"{_module(name)}.weight"
        matrix = weight in self.model and len(self.model.info(weight).shape) == 2
        return "a bias beside a matrix: LoRA has none" if matrix else ""

    def _is_turned(self, name: str) -> bool:
        """Whether a matrix is stored [in, out], as by the Conv1D layers of GPT-2."""
        return self.fan_in_fan_out and not holds_vocabulary(name)

    def keep_namesakes(self) -> None:
        """PEFT saves every module whose name ends with a saved one, and with all of its tensors."""
        saved = tuple(sorted({_module(name) for name in self.whole}))
        for name in self.model:
            if saved and _module(name).endswith(saved) and name not in self.whole:
                self.tensors = {key: value for key, value in self.tensors.items() if not _is_of(key, name)}
                self.ranks.pop(_module(name), None)
                self._keep(name, _values(self.model, name), self.report[name].norm if name in self.report else 0.0)

    def _keep(self, name: str, values: np.ndarray, norm: float) -> None:
        for place in (name, *self._twins.get(name, ())):
            self.tensors[ADAPTER_PREFIX + place] = values.astype(np.float32)
            self.whole.add(place)
        if norm:
            self.report[name] = ExtractedTensor(0, 1.0, norm)


def _largest(change: np.ndarray, wanted: _Wanted, name: str, norm: float) -> Directions:
    """The directions to keep of a difference."""
    most = wanted.most(name, change.shape)
    side = min(change.shape)
    exact = wanted.search == "exact" or (
        wanted.search == "auto" and (side <= _EXACT_UP_TO or (most * _WORTH > side and wanted.energy is None))
    )
    if exact:
        return _enough(directions(change).top(most), wanted.energy, norm)
    rank = most if wanted.energy is None else min(_FIRST_RANK, most)
    while True:
        kept = leading_directions(change, rank)
        holds = float(np.sum(np.square(kept.sizes))) / norm**2
        if rank == most or (wanted.energy is not None and holds >= wanted.energy):
            return _enough(kept, wanted.energy, norm)
        rank = min(2 * rank, most)


def _enough(kept: Directions, energy: float | None, norm: float) -> Directions:
    """The fewest directions that hold a share of ‖θ − θ₀‖²; at least one."""
    if energy is None:
        return kept
    shares = np.cumsum(np.square(kept.sizes)) / norm**2
    return kept.top(max(int(np.searchsorted(shares, energy * (1 - 1e-12))) + 1, 1))


def _values(source: Source, name: str) -> np.ndarray:
    info = source.info(name)
    return widen(source.read(name, 0, info.size), info.dtype).reshape(info.shape).copy()


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _is_of(key: str, name: str) -> bool:
    return key.startswith(f"{ADAPTER_PREFIX}{_module(name)}.lora_")


def _write(extraction: _Extraction, base: Path, out: Path, named: str | None = None) -> int:
    """Write the adapter's folder; returns the size of its weights. named: the base in its configuration."""
    hub = name_of(base)
    adapter = Adapter(
        extraction.tensors,
        extraction.ranks,
        saved=sorted({_module(name) for name in extraction.whole}),
        fan_in_fan_out=extraction.fan_in_fan_out,
        base=named or str(hub.repo if hub is not None else base.absolute()),
        hub=hub,
    )
    return write_adapter(adapter, out, extraction.dtype)
