"""A model whose token rows are in the order of another vocabulary, with rows for tokens that it lacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.view import SourceView

_ROWS_AT_ONCE = 1024
MEAN = -2  # the mean of the model's other arranged rows
MADE = -1  # a row of `Arranged.made`


@dataclass(frozen=True)
class Arranged:
    """Where the rows of one model come from.

    Attributes:
        own: row of the result → row of the model, or `MADE`, or `MEAN`; int64 [rows].
        made: row of the result → pairs of a model's key and its row; their mean is the row, and zeros if there are none.
    """

    own: np.ndarray
    made: Mapping[int, tuple[tuple[object, int], ...]]


class ArrangedRows(SourceView):
    """A source with the rows of some tensors arranged anew, as float32; other tensors are as they were.

    Args:
        inner: the source.
        tensors: the tensors whose rows stand for tokens.
        rows: where their rows come from.
        model: key of a model → the model, for rows that this one lacks. Called when a row is read.
    """

    def __init__(
        self, inner: Source, tensors: Collection[str], rows: Arranged, model: Callable[[object], Source]
    ) -> None:
        super().__init__(inner)
        self._tensors = frozenset(tensors)
        self._rows = rows
        self._model = model
        self._extra: dict[str, np.ndarray] = {}
        self._places = {row: place for place, row in enumerate(np.flatnonzero(rows.own < 0).tolist())}
        self._making = threading.Lock()

    def info(self, name: str) -> TensorInfo:
        info = super().info(name)
        if name not in self._tensors:
            return info
        rows = len(self._rows.own)
        shape = (1, rows) if self._is_row(name) else (rows, *info.shape[1:])
        return TensorInfo("float32", shape, native=info.native or info.dtype)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        if name not in self._tensors:
            return super().read(name, start, stop)
        width = self._width(name)
        return self._arranged(name, width, start, stop, self._made_rows(name) if self._places else np.zeros((0, width)))

    def _arranged(self, name: str, width: int, start: int, stop: int, made: np.ndarray) -> np.ndarray:
        """Elements [start, stop), in runs of rows that follow each other in the model, too."""
        first, last = start // width, -(-stop // width)
        values = take(stop - start)
        own = self._rows.own[first:last]
        breaks = np.flatnonzero((np.diff(own) != 1) | (own[:-1] < 0) | (own[1:] < 0)) + 1
        for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(own)], strict=True):
            low, high = max((first + begin) * width, start), min((first + end) * width, stop)
            skipped = low - (first + begin) * width
            if own[begin] >= 0:
                place = int(own[begin]) * width + skipped
                part = self._floats(name, place, place + high - low)
            else:
                row = made[self._places[first + begin]]
                part = row[skipped : skipped + high - low]
            values[low - start : high - start] = part
        return values

    def _width(self, name: str) -> int:
        """Elements for each token."""
        return 1 if self._is_row(name) else int(np.prod(self.inner.info(name).shape[1:], dtype=np.int64))

    def _is_row(self, name: str) -> bool:
        """Whether a tensor is one row with an element for each token, such as `final_logits_bias`."""
        shape = self.inner.info(name).shape
        return len(shape) == 2 and shape[0] == 1 < shape[1]

    def _floats(self, name: str, start: int, stop: int) -> np.ndarray:
        return widen(self.inner.read(name, start, stop), self.inner.info(name).dtype)

    def _made_rows(self, name: str) -> np.ndarray:
        """The rows that are not the model's, float32 [rows, width], in the order of the result."""
        with self._making:
            if name not in self._extra:
                self._extra[name] = self._make_rows(name)
            return self._extra[name]

    def _make_rows(self, name: str) -> np.ndarray:
        width = self._width(name)
        made = np.zeros((len(self._places), width), np.float32)
        for row, place in self._places.items():
            origins = self._rows.made.get(row, ())
            for key, there in origins:
                model = self._model(key)
                stored = model.read(name, there * width, (there + 1) * width)
                made[place] += widen(stored, model.info(name).dtype)
            if origins:
                made[place] /= np.float32(len(origins))
        means = [place for row, place in self._places.items() if self._rows.own[row] == MEAN]
        if means:
            made[means] = self._mean(name, width, made)
        return made

    def _mean(self, name: str, width: int, made: np.ndarray) -> np.ndarray:
        """The mean of all rows but the padding, in float64, rounded once."""
        rows = int(np.count_nonzero(self._rows.own != MEAN))
        total = np.zeros(width, np.float64)
        for first in range(0, rows, _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, rows)
            total += (
                self._arranged(name, width, first * width, last * width, made).reshape(-1, width).sum(0, np.float64)
            )
        return (total / max(rows, 1)).astype(np.float32)
