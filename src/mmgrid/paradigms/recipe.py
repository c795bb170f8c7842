"""The common part of all paradigms' recipes: how a model is trained in each phase. Imports no torch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from mmgrid.frozen import Frozen
from mmgrid.training.recipe import Lora, Precision, Schedule, TrainingRecipe

WhichTargets = Literal["phase", "history"]
Compat = Literal["official"]


class PhaseValues(Frozen):
    """One number for each phase in which a model is trained; `all` is for models trained in one go."""

    pretrain: float = Field(gt=0)
    phase1: float = Field(gt=0)
    phase2: float = Field(gt=0)
    all: float | None = Field(default=None, gt=0)

    def of(self, phase: str) -> float:
        value = getattr(self, phase)
        if value is None:
            raise ValueError(f"no value is given for phase {phase!r}")
        return float(value)


class PhaseSteps(Frozen):
    """A number of optimizer steps for each phase in which a model is trained; `all` as in `PhaseValues`."""

    pretrain: int = Field(default=0, ge=0)
    phase1: int = Field(default=0, ge=0)
    phase2: int = Field(default=0, ge=0)
    all: int = Field(default=0, ge=0)

    def of(self, phase: str) -> int:
        return int(getattr(self, phase))


PER_PHASE = ("epochs", "learning_rate", "least_steps")


class Recipe(Frozen):
    """All values of a paradigm, as set by `[paradigms.NAME]` in a grid file; a paradigm adds its own.

    EVALUATION names the values that affect only the evaluation of a trained model.
    """

    EVALUATION: ClassVar[tuple[str, ...]] = ()

    history_length: int = Field(default=25, ge=1, description="maximum interactions that a model reads")
    epochs: PhaseValues
    least_steps: PhaseSteps = Field(
        default=PhaseSteps(),
        json_schema_extra={"absent_means": PhaseSteps().model_dump()},
        description="optimizer steps below which a phase gets more epochs: small domains need steps, not epochs",
    )
    rehearsal: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra={"absent_means": 0.0},
        description="examples of earlier phases that later phases mix in, as a share of their own",
    )
    learning_rate: PhaseValues
    batch_size: int = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    base_decay: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra={"absent_means": 0.0},
        description="weight decay towards the base Θ⁽⁰⁾, which keeps models of several domains near one another",
    )
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    schedule: Schedule = "constant"
    precision: Precision = "float32"
    accumulation: int = Field(default=1, gt=0)
    lora: Lora | None = Field(
        default=None,
        json_schema_extra={"absent_means": None},
        description="train a low-rank adapter of the linear layers, and no weights; needs the extra mmgrid[lora]",
    )

    @model_validator(mode="after")
    def _one_way_to_the_base(self) -> "Recipe":
        if self.lora is not None and self.base_decay:
            raise ValueError(
                "base_decay goes without lora, whose weight_decay pulls to the base; leave one of them out"
            )
        return self

    def training(self, phase: str) -> TrainingRecipe:
        """The values of one phase, for `fit`."""
        return TrainingRecipe(
            epochs=self.epochs.of(phase),
            least_steps=self.least_steps.of(phase),
            learning_rate=self.learning_rate.of(phase),
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            base_decay=self.base_decay,
            warmup_ratio=self.warmup_ratio,
            schedule=self.schedule,
            precision=self.precision,
            accumulation=self.accumulation,
        )


class DialogueRecipe(Recipe):
    """The recipe of a language model that learns answers, from single targets or from all targets of a window."""

    targets_per_user: int = Field(default=5, ge=1, description="targets per user in pretrain; later phases take all")
    earlier_items: int = Field(default=4, ge=1, description="items that must come before a target")
    epochs: PhaseValues = PhaseValues(pretrain=3, phase1=2, phase2=2)
    learning_rate: PhaseValues = PhaseValues(pretrain=5e-5, phase1=1e-5, phase2=1e-5)
    batch_size: int = Field(default=16, gt=0)
    warmup_steps: int = Field(default=50, ge=0, description="overrides the ratio where it is > 0")
    schedule: Schedule = "cosine"
    precision: Precision = "bf16"

    def training(self, phase: str) -> TrainingRecipe:
        return super().training(phase).model_copy(update={"warmup_steps": self.warmup_steps})

    def most_targets(self, phase: str) -> int | None:
        """Maximum targets per user in a phase; None takes all."""
        return self.targets_per_user if phase == "pretrain" else None


def with_phase_values(recipe: type[BaseModel], values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`values` updated by `given`, in which a value per phase may be given in part, or as one number for all phases."""
    found = dict(values)
    for name, value in given.items():
        field = recipe.model_fields.get(name)
        if field is not None and field.annotation in (PhaseValues, PhaseSteps):
            value = _per_phase(value, values.get(name) or field.default)
        found[name] = value
    return found


def _per_phase(given: Any, default: Any) -> Any:
    whole = default.model_dump(exclude_none=True) if isinstance(default, BaseModel) else dict(default)
    if isinstance(given, Mapping):
        return whole | dict(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return dict.fromkeys(whole, given)
    return given
