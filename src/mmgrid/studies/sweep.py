"""A sweep: one domain's users, ranked by the models along a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.studies.statistics.curve import Best, best_place
from mmgrid.studies.statistics.ranked import MAIN_METRIC, Ranked


@dataclass(frozen=True, eq=False)
class Sweep:
    """The models Θ(t1) + λ (Θ(t2) − Θ(t1)) of a domain.

    scales: the λ of the points, rising; they name the models of `ranked`.
    """

    paradigm: str
    domain: str
    seed: int
    ranked: Ranked

    @classmethod
    def of(cls, paradigm: str, domain: str, seed: int, points: Mapping[float, pl.DataFrame]) -> Sweep:
        """From the tables of ranks (user_id, target, active, rank) of each point, by λ.

        Raises:
            ValueError: the points were ranked for different users or targets.
        """
        frames = {_name(scale): points[scale] for scale in sorted(points)}
        return cls(paradigm, domain, seed, Ranked.of(frames))

    @cached_property
    def scales(self) -> npt.NDArray[np.float64]:
        return np.array([float(name) for name in self.ranked.ranks])

    def at(self, scale: float) -> str:
        """The name, within `ranked`, of the point that lies nearest."""
        return list(self.ranked.ranks)[int(np.abs(self.scales - scale).argmin())]

    @cached_property
    def best(self) -> dict[str, Best]:
        """λ* of each group that has users, by NDCG@20."""
        groups = {group: users for group, users in self.ranked.groups().items() if len(users)}
        return {
            group: best_place(users.values(MAIN_METRIC), self.scales, seed=self.seed) for group, users in groups.items()
        }


def by_run(sweeps: Iterable[Sweep]) -> Iterator[tuple[dict[str, str | int], list[Sweep]]]:
    """The sweeps of each paradigm and seed, behind these two as the columns of a table have them."""

    def run(sweep: Sweep) -> tuple[str, int]:
        return sweep.paradigm, sweep.seed

    for (paradigm, seed), own in groupby(sorted(sweeps, key=run), key=run):
        yield {"paradigm": paradigm, "seed": seed}, list(own)


def _name(scale: float) -> str:
    return repr(float(scale))
