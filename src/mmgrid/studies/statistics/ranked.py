"""The ranks of the same users by several models, as studies compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.evaluation import group_masks, per_user
from mmgrid.seeds import derive

METRICS = ("ndcg@10", "ndcg@20", "recall@10", "recall@20")
MAIN_METRIC = "ndcg@20"  # for λ* and Fig. 4


@dataclass(frozen=True, eq=False)
class Ranked:
    """B users ranked by P models.

    user_ids: str[B], sorted. targets: int64[B]. active: bool[B]. ranks: name of the model → int64[B], or int64[B, D] for
    the D draws of a random merge.
    """

    user_ids: npt.NDArray[np.str_]
    targets: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]
    ranks: Mapping[str, npt.NDArray[np.int64]]

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame | Sequence[pl.DataFrame]]) -> Self:
        """From model → table of ranks (user_id, target, active, rank), or one table for each draw of a random merge.

        Tables may have different samples of users; the users of the smallest table are kept.

        Raises:
            ValueError: a table lacks a user of the smallest one, or has another target for it.
        """
        tables = {name: [one] if isinstance(one, pl.DataFrame) else list(one) for name, one in frames.items()}
        smallest = min(tables, key=lambda name: tables[name][0].height)
        users = tables[smallest][0].select("user_id", "target", "active").sort("user_id")
        ranks = {}
        for name, draws in tables.items():
            columns = []
            for frame in draws:
                joined = users.join(frame, on="user_id", how="left", maintain_order="left")
                if joined["rank"].null_count() or not joined["target"].equals(joined["target_right"]):
                    raise ValueError(f"{name} and {smallest}: ranked for different users or targets")
                columns.append(joined["rank"].to_numpy())
            ranks[name] = columns[0] if len(columns) == 1 else np.column_stack(columns)
        ids = np.array(users["user_id"].to_list(), np.str_)
        return cls(ids, users["target"].to_numpy(), users["active"].to_numpy(), ranks)

    def __len__(self) -> int:
        return len(self.user_ids)

    def groups(self) -> dict[str, Self]:
        """`all`, `active` and `non_active` → the ranks of these users."""
        return {group: self.where(mask) for group, mask in group_masks(self.active).items()}

    def where(self, mask: npt.NDArray[np.bool_]) -> Self:
        """The users for whom `mask` (bool[B]) is true."""
        ranks = {name: values[mask] for name, values in self.ranks.items()}
        rest = {"user_ids": self.user_ids[mask], "targets": self.targets[mask], "active": self.active[mask]}
        return replace(self, **rest, ranks=ranks)

    def values(self, metric: str, models: tuple[str, ...] | None = None) -> npt.NDArray[np.float64]:
        """float64[B, P]: a metric per user, in [0, 1], one column per model (default: all models); the mean over draws."""
        return self.draws(metric, models).mean(axis=2)

    def draws(self, metric: str, models: tuple[str, ...] | None = None) -> npt.NDArray[np.float64]:
        """float64[B, P, D]: the same for each draw; a model with one draw has the same value in all.

        Raises:
            ValueError: two models have several draws, and not equally many.
        """
        names = tuple(self.ranks) if models is None else models
        columns = [per_user(self.ranks[name].reshape(len(self), -1), (metric,))[:, 0] for name in names]
        numbers = {column.shape[1] for column in columns} - {1}
        if len(numbers) > 1:
            raise ValueError(f"{', '.join(names)}: have different numbers of draws, {sorted(numbers)}")
        shape = (len(self), max(numbers, default=1))
        return np.stack([np.broadcast_to(column, shape) for column in columns], axis=1)

    def first_half(self, seed: int) -> npt.NDArray[np.bool_]:
        """bool[B]: a random half of the users; membership depends only on the seed and the user's id."""
        return np.array([derive(seed, "half", str(user)) & 1 == 0 for user in self.user_ids], np.bool_)
