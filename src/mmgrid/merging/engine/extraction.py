"""What an adapter holds of the difference of two models: B A for each matrix, whole tensors where LoRA has no place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.linear_algebra import Directions, directions, leading_directions
from mmgrid.merging.models.adapter_names import ADAPTER_PREFIX
from mmgrid.merging.models.settings import CONV1D_TYPES, settings_of
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.ties import implied
from mmgrid.merging.models.token_tensors import embeddings_in, holds_vocabulary
from mmgrid.patterns import fits

Search = Literal["auto", "exact", "randomised"]
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
class Wanted:
    """How much of a change an adapter should hold.

    Attributes:
        rank: the largest rank of a tensor. ranks: pattern of names → the largest rank there, instead of `rank`.
        energy: the share of each tensor's ‖θ − θ₀‖² to hold; None for all that the rank allows.
        search: whether directions are computed exactly or searched for; see `extract_lora`.
    """

    rank: int
    energy: float | None
    ranks: Mapping[str, int]
    search: Search

    def most(self, name: str, shape: tuple[int, ...]) -> int:
        own = next((rank for pattern, rank in self.ranks.items() if fits(name, (pattern,))), self.rank)
        return min(own, *shape)


class Extraction:
    """The tensors of an adapter, as they are found. Threads may share it: each tensor is taken once."""

    def __init__(self, model: Source, base: Source, wanted: Wanted) -> None:
        self.model, self.base, self.wanted = model, base, wanted
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

    def take(self, name: str, wanted: Wanted | None = None) -> None:
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
            self.ranks[module_of(place)] = len(kept.sizes)
        share = min(float(np.sum(np.square(kept.sizes))) / norm**2, 1.0)
        self.report[name] = ExtractedTensor(len(kept.sizes), share, norm)

    def _unwanted(self, name: str) -> str:
        """Why an adapter has no place for a tensor that differs; empty if it has."""
        if not module_of(name):
            return "belongs to no module that PEFT could save"
        if name.endswith(".weight"):
            return ""
        weight = f"{module_of(name)}.weight"
        matrix = weight in self.model and len(self.model.info(weight).shape) == 2
        return "a bias beside a matrix: LoRA has none" if matrix else ""

    def _is_turned(self, name: str) -> bool:
        """Whether a matrix is stored [in, out], as by the Conv1D layers of GPT-2."""
        return self.fan_in_fan_out and not holds_vocabulary(name)

    def keep_namesakes(self) -> None:
        """PEFT saves every module whose name ends with a saved one, and with all of its tensors."""
        saved = tuple(sorted({module_of(name) for name in self.whole}))
        for name in self.model:
            if saved and module_of(name).endswith(saved) and name not in self.whole:
                self.tensors = {key: value for key, value in self.tensors.items() if not _is_of(key, name)}
                self.ranks.pop(module_of(name), None)
                self._keep(name, _values(self.model, name), self.report[name].norm if name in self.report else 0.0)

    def _keep(self, name: str, values: np.ndarray, norm: float) -> None:
        for place in (name, *self._twins.get(name, ())):
            self.tensors[ADAPTER_PREFIX + place] = values.astype(np.float32)
            self.whole.add(place)
        if norm:
            self.report[name] = ExtractedTensor(0, 1.0, norm)


def is_linear(model: Source, name: str) -> bool:
    """Whether a tensor is the matrix of a linear layer, by its name and shape: not of tokens or positions."""
    if len(model.info(name).shape) != 2 or not name.endswith(".weight") or not module_of(name):
        return False
    return not (holds_vocabulary(name) or _LOOKED_UP.search(name))


def module_of(name: str) -> str:
    """The module that a tensor belongs to."""
    return name.rpartition(".")[0]


def _largest(change: np.ndarray, wanted: Wanted, name: str, norm: float) -> Directions:
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


def _is_of(key: str, name: str) -> bool:
    return key.startswith(f"{ADAPTER_PREFIX}{module_of(name)}.lora_")
