"""Domains over time as lines of blocks, for the terminal."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mmgrid.data import Corpus
from mmgrid.data.monthly import by_month, gaps

_BLOCKS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_WIDTH, _LEAST_WIDTH = 40, 12
_OTHERS = 30  # letters of two months, the highest value, and the gaps between columns
_MEASURES = {"interactions": "interactions", "users": "users", "items": "items", "new_items": "new items, percent"}


def month_rows(corpora: Mapping[str, Corpus], terminal: int = 120) -> list[tuple[Any, ...]]:
    """For each domain and measure: domain, measure, first month, the months as blocks, last month, the highest value.

    There are as many blocks as fit beside the other columns of a terminal of this width.
    """
    beside = max(map(len, ("domain", *corpora))) + max(map(len, _MEASURES.values())) + _OTHERS
    width = min(_WIDTH, max(_LEAST_WIDTH, terminal - beside))
    rows: list[tuple[Any, ...]] = []
    for domain, corpus in corpora.items():
        months = by_month(corpus)
        if months.is_empty():
            continue
        first, last = (f"{months['month'][place]:%Y-%m}" for place in (0, -1))
        for measure, name in _MEASURES.items():
            values, is_share = months[measure].to_list(), measure == "new_items"
            line = blocks(values, width, zero=_BLOCKS[0] if is_share else _NOTHING)
            most = max(value for value in values if value is not None)
            rows.append((domain, name, first, line, last, round(most * (100 if is_share else 1))))
    return rows


def gap_rows(corpora: Mapping[str, Corpus]) -> list[tuple[Any, ...]]:
    """For each domain, the percent of interactions in each class of gaps."""
    return [(domain, *(100 * share for share in gaps(corpus).tolist())) for domain, corpus in corpora.items()]


def blocks(values: Sequence[float | None], width: int = _WIDTH, zero: str = _BLOCKS[0]) -> str:
    """Values from 0 as a line of blocks; where there are more than `width`, the means of neighbours.

    Where there is no value (None) stands a dot. zero: stands for 0.
    """
    places = [[value] for value in values]
    if len(values) > width:
        bounds = [len(values) * place // width for place in range(width + 1)]
        places = [list(values[low:high]) for low, high in pairwise(bounds)]
    means = [_mean([value for value in place if value is not None]) for place in places]
    most = max((mean for mean in means if mean is not None), default=0)
    return "".join(_block(mean, most, zero) for mean in means)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _block(value: float | None, most: float, zero: str) -> str:
    if value is None:
        return _NOTHING
    return _BLOCKS[min(len(_BLOCKS) - 1, int(value / most * len(_BLOCKS)))] if value > 0 else zero
