"""Token rows that an adapter of PEFT has in place of its model's (`trainable_token_indices`), or behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorInfo, Tensors

ROWS_SUFFIX = ".token_adapter.trainable_tokens_delta"  # of their names in the adapter's file


@dataclass(frozen=True)
class AdapterRows:
    """Rows of one table.

    Attributes:
        stored: the name of their values in the adapter.
        rows: int64 [n], where each of them belongs.
    """

    stored: str
    rows: np.ndarray

    def shape(self, table: TensorInfo) -> tuple[int, ...]:
        """The shape of the table with these rows."""
        return (max(table.shape[0], int(self.rows.max(initial=-1)) + 1), table.shape[1])

    def read(self, model: Tensors, adapter: Tensors, name: str, start: int, stop: int) -> np.ndarray:
        """Elements [start, stop) of the table with these rows: float32."""
        there, own = model.info(name), adapter.info(self.stored)
        width, result = there.shape[1], take(stop - start)
        inside = min(stop, there.size)
        if start < inside:
            np.copyto(result[: inside - start], widen(model.read(name, start, inside), there.dtype))
        for place in np.flatnonzero((self.rows >= start // width) & (self.rows * width < stop)).tolist():
            begin = int(self.rows[place]) * width
            low, high = max(begin, start), min(begin + width, stop)
            shift = place * width - begin
            result[low - start : high - start] = widen(adapter.read(self.stored, low + shift, high + shift), own.dtype)
        return result


def adapter_rows(
    adapter: Source, model: Source, settings: Mapping[str, Any], prefix: str, called: Mapping[str, str]
) -> dict[str, AdapterRows]:
    """Table of the model → the rows of it that an adapter has.

    Args:
        settings: the adapter's configuration.
        prefix: of all names in the adapter.
        called: module → its name in the configuration, where that differs.

    Raises:
        MergeError: they do not fit the model.
    """
    found = {}
    for stored in filter(is_rows, adapter):
        table = table_of(stored.removeprefix(prefix))
        module = table.removesuffix(".weight")
        rows = AdapterRows(stored, np.asarray(_places(settings, called.get(module, module)), np.int64))
        problem = "is not in it"
        if table in model:
            problem = _misfit(rows, model.info(table), adapter.info(stored))
        if problem is not None:
            raise MergeError(
                f"{adapter.path}: has rows for {model.path}, whose {table} {problem}; is it the adapter's model?"
            )
        found[table] = rows
    return found


def is_rows(name: str) -> bool:
    """Whether a tensor of an adapter has this meaning."""
    return name.endswith(ROWS_SUFFIX)


def table_of(name: str) -> str:
    """The table that such a tensor, its name without prefix, has rows of."""
    return f"{name.removesuffix(ROWS_SUFFIX)}.weight"


def _places(settings: Mapping[str, Any], module: str) -> Sequence[int]:
    """Where the rows of a module belong: the configuration has a list for all modules, or one for each."""
    told = settings.get("trainable_token_indices") or ()
    if not isinstance(told, Mapping):
        return told
    return next((own for key, own in told.items() if f".{module}".endswith(f".{key}")), ())


def _misfit(rows: AdapterRows, table: TensorInfo, values: TensorInfo) -> str | None:
    if len(table.shape) != 2 or values.shape != (len(rows.rows), table.shape[1]):
        return f"is {list(table.shape)}, and their values are {list(values.shape)}, for {len(rows.rows)} tokens"
    own = np.unique(rows.rows[rows.rows >= table.shape[0]])
    beyond = int(rows.rows.max(initial=-1)) + 1 - table.shape[0]
    return f"has {table.shape[0]} rows, of which they are not the next" if len(own) < beyond else None
