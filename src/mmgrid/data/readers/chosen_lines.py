"""The lines of a block whose id is wanted: a file of items may hold ten times as many others.

All lines are parsed for their ids, which is a fraction of the work, and only the chosen ones for the other fields.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from mmgrid.data.readers.typed_lines import TypedLines, line_breaks

_MOST = 0.5  # of the lines: of more, parsing ids first costs more than it saves
_SAMPLE_BYTES = 1 << 20

Wanted = Callable[[pl.Series], pl.Series | None]
"""From ids to bools; None: all, at least for now."""


@dataclass(frozen=True, eq=False)
class SomeLines:
    """Lines of a block. data: these alone. rows: which of the block's lines they are, from 0; `of`: of how many."""

    data: bytes
    rows: pl.Series
    of: int


class ChosenLines:
    """Chooses lines, as long as this leaves out many."""

    def __init__(self, name: str, wanted: Wanted) -> None:
        """name: the field of the ids."""
        self._name, self._wanted = name, wanted
        self._ids = TypedLines({name: pl.String}, [name])
        self._pays: bool | None = None

    def of(self, data: bytes) -> SomeLines | None:
        """The chosen lines; None if all are to be parsed, since nearly all are wanted or some are no objects with an id."""
        if self._pays is None:
            self._mask(data[: data.rfind(b"\n", 0, _SAMPLE_BYTES) + 1])
        mask = self._mask(data) if self._pays else None
        if mask is None or not self._pays:
            return None
        rows = mask.arg_true()
        ends = np.append(line_breaks(data) + 1, len(data))
        starts = np.append(0, ends)
        places = rows.to_numpy()
        spans = zip(starts[places].tolist(), ends[places].tolist(), strict=True)
        return SomeLines(b"".join([data[start:end] for start, end in spans]), rows, len(mask))

    def _mask(self, data: bytes) -> pl.Series | None:
        """bool: which lines are wanted, and so whether it pays to ask; None if all are, or some are no objects with an
        id."""
        table = self._ids.table(data)
        mask = self._wanted(table[self._name]) if table is not None else None
        if mask is None:
            return None
        self._pays = int(mask.sum()) <= _MOST * len(mask)
        return mask
