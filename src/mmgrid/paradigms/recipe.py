"""The common part of all paradigms' recipes: how a model is trained in each phase. Imports no torch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from mmgrid.frozen import Frozen
from mmgrid.training.recipe import Attention, Lora, Optimizer, Order, Precision, Schedule, TrainingRecipe

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


OFFICIAL_TRAINING = {"weight_decay": 0.01, "gradient_clipping": 0.0, "precision": "bf16-weights", "order": "time"}
"""How the paper's official code trains text and semid: torchtune with AdamW as torch has it, `clip_grad_norm: null`,
`dtype: bf16`, `shuffle: False` over examples sorted by time (config/title.yml, config/sem_id.yml).
"""

PER_PHASE = ("epochs", "learning_rate", "least_steps")


class Recipe(Frozen):
    """All values of a paradigm, as set by `[paradigms.NAME]` in a grid file; a paradigm adds its own.

    EVALUATION names the values that affect only the evaluation of a trained model; a paradigm adds its own. PLACING
    names those that say where a training computes, and change no result; they are part of no fingerprint.
    """

    EVALUATION: ClassVar[tuple[str, ...]] = ("evaluation_precision",)
    PLACING: ClassVar[tuple[str, ...]] = ("processes", "sharding")

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
    evaluation_precision: Literal["float32", "bf16"] = Field(
        default="float32",
        json_schema_extra={"absent_means": "float32"},
        description="in which a trained model ranks; scores and distances are always computed in float32 or above",
    )
    optimizer: Optimizer = Field(
        default="adamw",
        json_schema_extra={"absent_means": "adamw"},
        description="AdamW, Adam, or AdamW with moments in 8 bits, which needs mmgrid[bitsandbytes] and a GPU",
    )
    gradient_clipping: float = Field(
        default=1.0,
        ge=0,
        json_schema_extra={"absent_means": 1.0},
        description="maximum norm of the gradient; 0 for no clipping",
    )
    attention: Attention = Field(
        default="sdpa",
        json_schema_extra={"absent_means": "sdpa"},
        description="how training computes attention; flash_attention_2 needs its package and a GPU",
    )
    compile: bool = Field(
        default=False,
        json_schema_extra={"absent_means": False},
        description="compile the layers for training: slow first steps, faster ones on a GPU",
    )
    order: Order = Field(
        default="shuffled",
        json_schema_extra={"absent_means": "shuffled"},
        description="of the examples: drawn anew in each epoch, or by the time of their targets",
    )
    accumulation: int = Field(default=1, gt=0)
    processes: int = Field(
        default=1, ge=1, description="processes that train together, each on a GPU, or on a core where there is none"
    )
    sharding: Literal["none", "full"] = Field(
        default="none",
        description="whether each process holds all weights, or its share of weights, gradients and moments (FSDP)",
    )
    lora: Lora | None = Field(
        default=None,
        json_schema_extra={"absent_means": None},
        description="train a low-rank adapter of the linear layers, and no weights; needs the extra mmgrid[lora]",
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        named = (name for kind in reversed(cls.__mro__) for name in vars(kind).get("EVALUATION", ()))
        cls.EVALUATION = tuple(dict.fromkeys(named))

    @model_validator(mode="after")
    def _one_way_to_the_base(self) -> "Recipe":
        if self.lora is not None and self.base_decay:
            raise ValueError(
                "base_decay goes without lora, whose weight_decay pulls to the base; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _pulls_that_are_not_rounded_away(self) -> "Recipe":
        if self.base_decay and self.precision == "bf16-weights":
            raise ValueError(
                'base_decay moves weights by less than bfloat16 can tell; leave it out, or set precision = "bf16"'
            )
        return self

    @model_validator(mode="after")
    def _in_one_order(self) -> "Recipe":
        if self.rehearsal and self.order == "time":
            raise ValueError('rehearsal mixes examples of all times; leave it out, or set order = "shuffled"')
        return self

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> "Recipe":
        parts = self.training("pretrain").accumulation
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be divided into {parts} micro-batches (accumulation); make it a "
                f"multiple of {parts}"
            )
        return self

    @model_validator(mode="after")
    def _sharded_over_several(self) -> "Recipe":
        if self.sharding == "full" and self.processes == 1:
            raise ValueError('sharding = "full" divides the weights among processes; set processes, or remove it')
        if self.sharding == "full" and (self.base_decay or self.optimizer == "adamw_8bit"):
            other = "base_decay" if self.base_decay else 'optimizer = "adamw_8bit"'
            raise ValueError(
                f'sharding = "full" goes without {other}, which needs whole weights; leave one of them out'
            )
        return self

    @model_validator(mode="after")
    def _flash_is_half(self) -> "Recipe":
        if self.attention == "flash_attention_2" and self.precision == "float32":
            raise ValueError('attention = "flash_attention_2" computes in bfloat16 only; set precision = "bf16"')
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
            optimizer=self.optimizer,
            max_grad_norm=self.gradient_clipping,
            precision=self.precision,
            attention=self.attention,
            compile=self.compile,
            order=self.order,
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
    cross_entropy: Literal["torch", "cut"] = Field(
        default="torch",
        json_schema_extra={"absent_means": "torch"},
        description="over all tokens: by torch in slices, or by a fused kernel, which needs its package and a GPU",
    )
    schedule: Schedule = "cosine"
    precision: Precision = "bf16"

    def training(self, phase: str) -> TrainingRecipe:
        return super().training(phase).model_copy(update={"warmup_steps": self.warmup_steps})

    @property
    def averaged(self) -> dict[str, str]:
        """What belongs to a checkpoint's identity if a step has several micro-batches, whose sum was once taken for their
        mean."""
        return {"micro_batches": "averaged"} if self.accumulation > 1 else {}

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
