"""A sweep: the users of one domain, ranked by models on the line through the checkpoints of t1 and t2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, field_validator

from mmgrid.paradigms import PARADIGMS
from mmgrid.studies.contract import Context, Steps, Study, StudyGrid, StudySpec
from mmgrid.studies.statistics.curve import Best, best_place
from mmgrid.studies.statistics.ranked import MAIN_METRIC, Ranked

DEFAULT_SCALES = Steps.model_validate({"from": -0.5, "to": 2.0, "step": 0.1})


@dataclass(frozen=True, eq=False)
class Sweep:
    """The models Θ(t1) + λ (Θ(t2) − Θ(t1)) of a domain.

    scales: float64[P], the λ of the points, ascending; `ranked` has one model per point, named by its λ.
    """

    paradigm: str
    domain: str
    seed: int
    ranked: Ranked

    @classmethod
    def of(cls, paradigm: str, domain: str, seed: int, points: Mapping[float, pl.DataFrame]) -> Sweep:
        """From λ → table of ranks (user_id, target, active, rank).

        Raises:
            ValueError: two points have ranks for different users or targets.
        """
        frames = {_name(scale): points[scale] for scale in sorted(points)}
        return cls(paradigm, domain, seed, Ranked.of(frames))

    @cached_property
    def scales(self) -> npt.NDArray[np.float64]:
        return np.array([float(name) for name in self.ranked.ranks])

    def at(self, scale: float) -> str:
        """The name in `ranked` of the point nearest to `scale`."""
        return list(self.ranked.ranks)[int(np.abs(self.scales - scale).argmin())]

    @cached_property
    def best(self) -> dict[str, Best]:
        """λ* by NDCG@20 for each group that has users."""
        groups = {group: users for group, users in self.ranked.groups().items() if len(users)}
        return {
            group: best_place(users.values(MAIN_METRIC), self.scales, seed=self.seed) for group, users in groups.items()
        }


class SweepSpec(StudySpec):
    """The keys of a study of λ in a grid file."""

    scales: Steps | None = Field(
        default=None, description="values of λ; default: those of the temporal study, −0.5 to 2 by 0.1"
    )

    @field_validator("scales")
    @classmethod
    def _a_curve(cls, scales: Steps | None) -> Steps | None:
        if scales and not set(scales.values()) - {0.0, 1.0}:
            raise ValueError("0 and 1 are the checkpoints themselves; a curve needs more points")
        return scales


@dataclass(frozen=True)
class SweepParts:
    """λ → evaluation, for one domain; λ = 0 and 1 are the checkpoints themselves."""

    points: Mapping[float, Any]


@dataclass(frozen=True)
class DescribedSweepParts(SweepParts):
    """A sweep and the corpus of its domain."""

    corpus: Any


def sweep_points(spec: SweepSpec, grid: StudyGrid, domain: str) -> dict[float, Any]:
    """λ → evaluation, for the sweep of a domain.

    The values of λ and the sample of users are those of the study, else of the grid's temporal study, else the default.
    """
    shared = grid.spec_of("temporal")
    scales = spec.scales or (shared and shared.scales) or DEFAULT_SCALES
    max_users = spec.max_users or (shared and shared.max_users)
    old, new = grid.phases[-2:]
    points = {0.0: grid.evaluation(domain, old), 1.0: grid.evaluation(domain, new)}
    inner = [scale for scale in scales.values() if scale not in points]
    return points | {scale: grid.between_phases(domain, scale, max_users) for scale in inner}


def described_sweeps(spec: SweepSpec, grid: StudyGrid) -> dict[str, DescribedSweepParts]:
    """Domain → its sweep and corpus."""
    return {
        domain: DescribedSweepParts(sweep_points(spec, grid, domain), grid.corpus(domain)) for domain in grid.domains
    }


def sweeps_of(parts: Mapping[str, SweepParts], context: Context) -> list[Sweep]:
    """The sweep of each domain, read from its evaluations."""
    return [
        Sweep.of(context.paradigm, domain, context.seed, {at: part.ranks() for at, part in own.points.items()})
        for domain, own in parts.items()
    ]


def generative(paradigms: Sequence[str]) -> list[str]:
    """The paradigms without baselines such as SASRec, which a grid also trains in one go and nobody merges."""
    return [name for name in paradigms if not PARADIGMS[name].in_one_go]


class SweepStudy(Study):
    """A study of λ. It needs a `SweepParts` for each domain, and by default it studies all generative paradigms."""

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return generative(trained)


def by_run(sweeps: Iterable[Sweep]) -> Iterator[tuple[dict[str, str | int], list[Sweep]]]:
    """The sweeps of each paradigm and seed, each list preceded by `{"paradigm": …, "seed": …}`."""

    def run(sweep: Sweep) -> tuple[str, int]:
        return sweep.paradigm, sweep.seed

    for (paradigm, seed), own in groupby(sorted(sweeps, key=run), key=run):
        yield {"paradigm": paradigm, "seed": seed}, list(own)


def _name(scale: float) -> str:
    return repr(float(scale))
