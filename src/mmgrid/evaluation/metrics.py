"""Ranking metrics as pure functions of the target's rank.

With one relevant item per user, each metric of a ranked list is a function of the item's rank, counted from 0 (see
`ranking`). A metric takes int64[B] ranks and a cutoff and returns float64[B], one value per user in [0, 1]; means,
groups and percent come later. `NOT_RANKED` always gives 0: a user is never dropped.

Names are `recall@10`, `ndcg@20`, `mrr@10`, and `mrr` without a cutoff.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation.ranking import NOT_RANKED

DEFAULT_METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
"""The metrics that an evaluation reports by default."""

_NAME = re.compile(r"([a-z]+)(?:@([1-9][0-9]*))?")


def recall(ranks: npt.NDArray[np.integer], k: int | None) -> npt.NDArray[np.float64]:
    """Recall@k: 1 if the target is among the first k, else 0.

    Formula: |relevant in the first k| / |relevant|. With one relevant item it is the hit rate.
    Source: Manning, Raghavan and Schütze, *Introduction to Information Retrieval*, 2008, section 8.4.
    Edge rule: the divisor is always 1, and a target that is not ranked gives 0.
    """
    return _within(ranks, k).astype(np.float64)


def ndcg(ranks: npt.NDArray[np.integer], k: int | None) -> npt.NDArray[np.float64]:
    """NDCG@k: 1 / log2(rank + 2) if the target is among the first k, else 0; rank counts from 0.

    Formula: DCG@k / ideal DCG@k with gain 1 and discount 1 / log2(place + 1), places from 1. With one
    relevant item the ideal DCG is 1.
    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 20(4), 2002;
    the discount of Burges et al., "Learning to rank using gradient descent", ICML 2005.
    Edge rule: a target that is not ranked gives 0.
    """
    inside = _within(ranks, k)
    values = np.zeros(ranks.shape, np.float64)
    values[inside] = 1.0 / np.log2(ranks[inside] + 2.0)
    return values


def mrr(ranks: npt.NDArray[np.integer], k: int | None) -> npt.NDArray[np.float64]:
    """MRR@k: the reciprocal place 1 / (rank + 1) if the target is among the first k, else 0.

    Formula: 1 / place of the first relevant item; the mean over users is the MRR.
    Source: Voorhees, "The TREC-8 Question Answering Track Report", TREC 1999.
    Edge rule: without a cutoff every rank counts; a target that is not ranked gives 0. For a model that
    only returns lists, `mrr` equals `mrr@length`.
    """
    inside = _within(ranks, k)
    values = np.zeros(ranks.shape, np.float64)
    values[inside] = 1.0 / (ranks[inside] + 1.0)
    return values


METRICS: MappingProxyType[str, Callable[[npt.NDArray[np.integer], int | None], npt.NDArray[np.float64]]] = (
    MappingProxyType({"recall": recall, "ndcg": ndcg, "mrr": mrr})
)
"""Metric family → function of ranks and cutoff."""

_NEEDS_CUTOFF = frozenset({"recall", "ndcg"})


@dataclass(frozen=True)
class Metric:
    """A metric family with a cutoff: `parse_metric("ndcg@20")(ranks)` gives float64[B]."""

    family: str
    k: int | None

    @property
    def name(self) -> str:
        return self.family if self.k is None else f"{self.family}@{self.k}"

    def __call__(self, ranks: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        return METRICS[self.family](ranks, self.k)


def parse_metric(name: str) -> Metric:
    """The metric with this name.

    Raises:
        ValueError: the family is unknown, or the cutoff is missing, zero or not a whole number.
    """
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in METRICS:
        known = ", ".join(f"{family}@K" for family in METRICS)
        raise ValueError(f"{name!r} is not a metric; known are {known} (K a whole number from 1) and mrr")
    family, k = match[1], int(match[2]) if match[2] else None
    if k is None and family in _NEEDS_CUTOFF:
        raise ValueError(f"metric {name!r} needs a cutoff, for example {family}@10")
    return Metric(family, k)


def per_user(ranks: npt.NDArray[np.integer], names: Sequence[str] = DEFAULT_METRICS) -> npt.NDArray[np.float64]:
    """float64[B, len(names)]: one column per metric, in the given order; float64[B, len(names), D] for ranks [B, D]."""
    ranks = np.asarray(ranks)
    if ranks.ndim == 2:
        return np.stack([per_user(draw, names) for draw in ranks.T], axis=2)
    if not names:
        return np.empty((len(ranks), 0), np.float64)
    return np.column_stack([parse_metric(name)(ranks) for name in names])


def _within(ranks: npt.NDArray[np.integer], k: int | None) -> npt.NDArray[np.bool_]:
    if not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(f"ranks: expected whole numbers from 0, got {ranks.dtype}")
    if ranks.size and int(ranks.min()) < NOT_RANKED:
        raise ValueError(
            f"ranks: {int(ranks.min())} is not a rank; ranks count from 0, and {NOT_RANKED} means not ranked"
        )
    if k is not None and k < 1:
        raise ValueError(f"cutoff {k}: must be 1 or more")
    inside = ranks >= 0
    return inside if k is None else inside & (ranks < k)
