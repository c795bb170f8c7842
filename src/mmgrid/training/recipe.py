"""The recipe of a training run: everything that determines it except data, initial weights and seed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["float32", "bf16"]
Schedule = Literal["cosine", "constant"]


class TrainingRecipe(BaseModel):
    """Hyper-parameters of one call of `fit`. Every value is explicit; none depends on the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(gt=0, description="passes over the examples")
    least_steps: int = Field(default=0, ge=0, description="optimizer steps; more epochs are run if they give fewer")
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(gt=0, description="examples per optimizer step, over all processes")
    weight_decay: float = Field(default=0.0, ge=0)
    base_decay: float = Field(default=0.0, ge=0, description="weight decay towards the base")
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1, description="share of the steps used for warm-up")
    warmup_steps: int = Field(default=0, ge=0, description="warm-up in steps; overrides the ratio if > 0")
    schedule: Schedule = "cosine"
    max_grad_norm: float = Field(default=1.0, gt=0)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    precision: Precision = "float32"
    accumulation: int = Field(default=1, gt=0, description="micro-batches per optimizer step")
