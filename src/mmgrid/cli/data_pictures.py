"""Domains over time as lines of blocks, for the terminal."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mmgrid.data import Corpus
from mmgrid.data.monthly import by_month, gaps

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_MEASURES = {"interactions": "interactions", "users": "users", "items": "items", "new_items": "new items, percent"}


def month_rows(corpora: Mapping[str, Corpus]) -> list[tuple[Any, ...]]:
    """For each domain and measure: domain, measure, first month, the months as blocks, last month, the highest value."""
    rows: list[tuple[Any, ...]] = []
    for domain, corpus in corpora.items():
        months = by_month(corpus)
        if months.is_empty():
            continue
        first, last = (f"{months['month'][place]:%Y-%m}" for place in (0, -1))
        for measure, name in _MEASURES.items():
            values = [value or 0.0 for value in months[measure].to_list()]
            factor = 100 if measure == "new_items" else 1
            rows.append((domain, name, first, blocks(values), last, round(max(values) * factor)))
    return rows


def gap_rows(corpora: Mapping[str, Corpus]) -> list[tuple[Any, ...]]:
    """For each domain, the percent of interactions in each class of gaps."""
    return [(domain, *(100 * share for share in gaps(corpus).tolist())) for domain, corpus in corpora.items()]


def blocks(values: Sequence[float], width: int = _WIDTH) -> str:
    """Values from 0 as a line of blocks; where there are more than `width`, the means of neighbours."""
    if len(values) > width:
        bounds = [len(values) * place // width for place in range(width + 1)]
        values = [sum(values[low:high]) / (high - low) for low, high in pairwise(bounds)]
    most = max(values, default=0)
    if most <= 0:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(value / most * len(_BLOCKS)))] for value in values)
