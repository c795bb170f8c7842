"""A domain's checkpoint beside the models that its parts are changes of, tensor by tensor.

Of a token table whose rows are elsewhere in those models, only the rows that a part has are seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS
from mmgrid.merging.arrays.floats import Floats, all_finite, widen
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.family.file import DomainEntry
from mmgrid.merging.models.family.member import row_maps
from mmgrid.merging.models.family.readers import as_type, rounded
from mmgrid.merging.models.family.rows import Of, RowMap, read_spans
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.models.view import SourceView


class Stored(SourceView):
    """A source in the types that its checkpoint is stored in: a LoRA adapter is read in float32, and rounded here."""

    def info(self, name: str) -> TensorInfo:
        info = self.inner.info(name)
        return TensorInfo(info.native or info.dtype, info.shape)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        info, stored = self.inner.info(name), self.inner.read(name, start, stop)
        if info.native is None or info.native == info.dtype:
            return stored
        return rounded(widen(stored, info.dtype), info.native)


@dataclass(frozen=True)
class Pair:
    """A domain's tensors and their references.

    Attributes:
        target: the domain's checkpoint.
        reference: the shared model, or in a chain the checkpoint before.
        base: θ₀, for masks.
        entry: what happens to each tensor.
    """

    target: Source
    reference: Source
    base: Source | None
    entry: DomainEntry

    @cached_property
    def rows(self) -> dict[str, RowMap]:
        return row_maps(self.entry)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of what a part has of a tensor."""
        whole, rows = self.entry.tensors[name].shape, self.rows.get(name)
        return whole if rows is None else (rows.count("part"), *whole[1:])

    def stored(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements of the domain's tensor, in its type."""
        rows = self.rows.get(name)
        if rows is None:
            return self.target.read(name, start, stop)
        return read_spans(self.target, name, rows.spans(start, stop, "start"))

    def values(self, name: str, start: int, stop: int) -> Floats:
        """Elements of the domain's tensor in float32.

        Raises:
            MergeError: they hold NaN or an infinity.
        """
        return self._finite(self.target, name, self.stored(name, start, stop), self.entry.tensors[name].dtype)

    def reference_values(self, name: str, start: int, stop: int) -> Floats:
        """Elements of the reference in float32."""
        return self._other(self.reference, name, start, stop, "at")

    def base_values(self, name: str, start: int, stop: int) -> Floats:
        """Elements of the base in float32."""
        assert self.base is not None
        return self._other(self.base, name, start, stop, "base")

    def stored_reference(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements of the reference in the type of the domain's tensor."""
        like, dtype = self._like(name), self.entry.tensors[name].dtype
        return as_type(self._rows(self.reference, name, start, stop, "at"), self.reference.info(like), dtype)

    def _like(self, name: str) -> str:
        return self.entry.tensors[name].like or name

    def _rows(self, source: Tensors, name: str, start: int, stop: int, of: Of) -> np.ndarray:
        rows = self.rows.get(name)
        if rows is None:
            return source.read(self._like(name), start, stop)
        return read_spans(source, self._like(name), rows.spans(start, stop, of))

    def _other(self, source: Source, name: str, start: int, stop: int, of: Of) -> Floats:
        return self._finite(
            source, name, self._rows(source, name, start, stop, of), source.info(self._like(name)).dtype
        )

    def _finite(self, source: Source, name: str, stored: np.ndarray, dtype: str) -> Floats:
        values = widen(stored, dtype)
        if not all_finite(stored, values, dtype):
            raise MergeError(
                f"{source.path}: tensor {name}: holds NaN or an infinity, which this part cannot write; give the tensor the "
                "part own or exact"
            )
        return values


def same_bytes(one: Tensors, first: str, other: Tensors, second: str) -> bool:
    """Whether two tensors hold the same bytes; reading ends at the first difference."""
    info = one.info(first)
    if info != other.info(second):
        return False
    for start in range(0, info.size, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, info.size)
        if one.read(first, start, stop).tobytes() != other.read(second, start, stop).tobytes():
            return False
    return True
