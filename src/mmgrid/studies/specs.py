"""The studies of a grid file: what each asks, of which domains and paradigms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mmgrid.frozen import Frozen

Group = Literal["all", "active", "non_active"]
Way = Literal["weight", "subspace"]
Base = Literal["backbone", "historical", "neutral"]
MOST_POINTS = 1001


class Steps(Frozen):
    """Evenly spaced numbers, both ends included."""

    first: float = Field(alias="from", allow_inf_nan=False)
    last: float = Field(alias="to", allow_inf_nan=False)
    step: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _rising(self) -> Steps:
        if self.last < self.first:
            raise ValueError(f"to = {self.last:g} lies below from = {self.first:g}")
        if (self.last - self.first) / self.step >= MOST_POINTS:
            raise ValueError(f"more than {MOST_POINTS} points from {self.first:g} to {self.last:g}; take larger steps")
        return self

    def values(self) -> list[float]:
        """The numbers, without the dust of binary fractions: 0.3, not 0.30000000000000004."""
        n = int((self.last - self.first) / self.step + 1e-9) + 1
        return [round(self.first + place * self.step, 9) + 0.0 for place in range(n)]


class _Study(Frozen):
    domains: tuple[str, ...] | None = Field(default=None, min_length=1, description="default: all of the grid")
    paradigms: tuple[str, ...] | None = Field(default=None, min_length=1, description="default: all that can be asked")
    max_users: int | None = Field(
        default=None, ge=1, description="a sample of the test users, the same for every model"
    )

    @field_validator("domains", "paradigms")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = sorted({name for name in names or () if (names or ()).count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is named twice")
        return names


class BaselinesSpec(_Study):
    """Table 2: each paradigm at t2 against popularity and SASRec."""

    kind: Literal["baselines"]


class VectorsSpec(_Study):
    """Fig. 2: how far the checkpoints moved, and how much their task vectors conflict."""

    kind: Literal["vectors"]


class CrossDomainSpec(_Study):
    """Fig. 3: every pair of domains merged and evaluated on both."""

    kind: Literal["cross_domain"]
    ways: tuple[Way, ...] = Field(default=("weight", "subspace"), min_length=1)


class BaseModelSpec(_Study):
    """Fig. 4: pairs of domains merged over several bases, α from 0 to 1."""

    kind: Literal["base_model"]
    bases: tuple[Base, ...] = Field(default=("backbone", "historical", "neutral"), min_length=1)
    alphas: Steps = Steps.model_validate({"from": 0.0, "to": 1.0, "step": 0.1})
    pairs: tuple[tuple[str, str], ...] | None = Field(default=None, min_length=1, description="default: every pair")

    @field_validator("pairs")
    @classmethod
    def _of_two(cls, pairs: tuple[tuple[str, str], ...] | None) -> tuple[tuple[str, str], ...] | None:
        for first, second in pairs or ():
            if first == second:
                raise ValueError(f"{first} is paired with itself")
        if len({frozenset(pair) for pair in pairs or ()}) < len(pairs or ()):
            raise ValueError("a pair is named twice; α from 0 to 1 is both its directions")
        return pairs


class _Temporal(_Study):
    scales: Steps | None = Field(default=None, description="of λ; default: the temporal study's, −0.5 to 2 by 0.1")

    @field_validator("scales")
    @classmethod
    def _a_curve(cls, scales: Steps | None) -> Steps | None:
        if scales and not set(scales.values()) - {0.0, 1.0}:
            raise ValueError("0 and 1 are the checkpoints themselves; a curve needs more points")
        return scales


class TemporalSpec(_Temporal):
    """Fig. 5: Θ(t1) + λ (Θ(t2) − Θ(t1))."""

    kind: Literal["temporal"]
    groups: tuple[Group, ...] = Field(default=("all", "active", "non_active"), min_length=1)


class RecencySpec(_Temporal):
    """Table 4: item recency and the best λ of non-active users."""

    kind: Literal["recency"]


class AdviseSpec(_Temporal):
    """Table 3: λ predicted from the other domains, and what it gains."""

    kind: Literal["advise"]


StudySpec = Annotated[
    BaselinesSpec | VectorsSpec | CrossDomainSpec | BaseModelSpec | TemporalSpec | RecencySpec | AdviseSpec,
    Field(discriminator="kind"),
]
TemporalKind = TemporalSpec | RecencySpec | AdviseSpec
SCALES = Steps.model_validate({"from": -0.5, "to": 2.0, "step": 0.1})


def sweep_of(study: TemporalKind, paradigm: str, studies: Iterable[StudySpec]) -> tuple[Steps, int | None]:
    """The λ of a study of a paradigm and its sample of users: its own, else those of the grid's temporal study of that
    paradigm, else the default."""
    temporal = (other for other in studies if isinstance(other, TemporalSpec))
    shared = next((other for other in temporal if paradigm in (other.paradigms or (paradigm,))), None)
    scales = study.scales or (shared and shared.scales) or SCALES
    return scales, study.max_users or (shared and shared.max_users)
