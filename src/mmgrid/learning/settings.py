"""The settings of a learned merge, with the values of the papers as defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from mmgrid.frozen import Frozen
from mmgrid.learning.errors import LearningError
from mmgrid.learning.groups import Grouping
from mmgrid.merging.errors import nearest, problem_of

Users = Literal["pseudo", "histories"]

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "mergerec": {"users": "pseudo", "distillation": 2.5, "recommendation": 1.0},
    "adamerging": {"users": "histories", "entropy": 1.0, "bounds": (0.0, 1.0)},
    "fisher": {"users": "histories"},
    "regmean": {"users": "histories"},
}
"""The learners, each with the values that differ from `LearningSettings`.

mergerec: the public code weighs the distillation by 1000 · 0.05² at a temperature of 0.05 on cosines, which is 2.5 at
the models' own temperature. adamerging: the public code keeps the weights between 0 and 1.
"""


LEARNERS = tuple(DEFAULTS)
KINDS: Mapping[str, str] = {"fisher": "fisher", "regmean": "gram"}
"""Learner of statistics → the kind that it measures, and that the method of its name takes."""
OF_STATISTICS = ("users", "number", "length", "seed")
"""The settings of a learner of statistics, which takes no steps."""


class LearningSettings(Frozen):
    """How a merge is learned."""

    users: Users = Field(default="pseudo", description="who is asked: pseudo-users made of items, or known histories")
    number: int = Field(default=300, ge=1, description="users of each domain, at most")
    length: int = Field(default=2, ge=2, description="items of a pseudo-user: a real one, then recommended ones")
    per: Grouping = Field(
        default="domain", description="one weight for each domain and: nothing else, tower, layer, tensor"
    )
    start: float = Field(default=0.3, allow_inf_nan=False, description="every weight before the first step")
    steps: int = Field(default=500, ge=0, description="steps of the optimiser")
    batch_size: int = Field(default=16, ge=1, description="users of each domain in a step")
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    recommendation: float = Field(default=0.0, ge=0, description="factor on the loss of recommending the newest item")
    distillation: float = Field(default=0.0, ge=0, description="factor on the divergence from the domain's own model")
    temperature: float = Field(default=1.0, gt=0, description="of the distillation")
    entropy: float = Field(default=0.0, ge=0, description="factor on the entropy of what is recommended")
    bounds: tuple[float, float] | None = Field(default=None, description="least and largest weight")
    seed: int = Field(default=0, ge=0, description="of the sample of users and of their order")

    @field_validator("bounds")
    @classmethod
    def _bounds_leave_room(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and not -math.inf < bounds[0] < bounds[1] < math.inf:
            raise ValueError("should be two finite numbers, the smaller one first")
        return bounds

    @classmethod
    def of(cls, learner: str, values: Mapping[str, Any] | None = None) -> LearningSettings:
        """The settings of a learner, with `values` instead of its defaults.

        Raises:
            LearningError: there is no such learner, a value is unknown or does not fit.
        """
        if learner not in DEFAULTS:
            raise LearningError(
                f"unknown learner {learner!r}{nearest(learner, DEFAULTS)}; known: {', '.join(DEFAULTS)}"
            )
        given = dict(values or {})
        names = OF_STATISTICS if learner in KINDS else tuple(cls.model_fields)
        for name in given:
            if name not in names:
                what = (
                    f"has no {name}, as it takes no steps" if name in cls.model_fields else f"unknown setting {name!r}"
                )
                raise LearningError(f"{learner}: {what}{nearest(name, names)}; known: {', '.join(names)}")
        try:
            return cls.model_validate({**DEFAULTS[learner], **given})
        except ValidationError as error:
            first = error.errors()[0]
            place = f"{first['loc'][0]}: " if first["loc"] else ""
            raise LearningError(f"{learner}: {place}{problem_of(first)}") from None
