"""The recipe of a training run: everything that determines it except data, initial weights and seed."""

from typing import Literal

from pydantic import Field, field_validator

from mmgrid.frozen import Frozen

Precision = Literal["float32", "bf16", "bf16-weights"]
"""`bf16`: computed in bfloat16 where that is safe (autocast), with weights in float32; `bf16-weights`: weights, gradients
and moments, too, are bfloat16 during the training."""
Optimizer = Literal["adamw", "adam", "adamw_8bit"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Order = Literal["shuffled", "time"]
Schedule = Literal["cosine", "constant"]
ALL_LINEAR = "all-linear"  # as PEFT says it


class TrainingRecipe(Frozen):
    """Hyper-parameters of one call of `fit`. Every value is explicit; none depends on the machine."""

    epochs: float = Field(gt=0, description="passes over the examples")
    least_steps: int = Field(default=0, ge=0, description="optimizer steps; more epochs are run if they give fewer")
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(gt=0, description="examples per optimizer step, over all processes")
    weight_decay: float = Field(default=0.0, ge=0)
    base_decay: float = Field(default=0.0, ge=0, description="weight decay towards the base")
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1, description="share of the steps used for warm-up")
    warmup_steps: int = Field(default=0, ge=0, description="warm-up in steps; overrides the ratio if > 0")
    schedule: Schedule = "cosine"
    optimizer: Optimizer = "adamw"
    max_grad_norm: float = Field(default=1.0, ge=0, description="maximum norm of the gradient; 0 for no clipping")
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    precision: Precision = "float32"
    attention: Attention = "sdpa"
    compile: bool = Field(default=False, description="compile the layers")
    order: Order = Field(default="shuffled", description="of the examples: drawn anew in each epoch, or by time")
    accumulation: int = Field(default=1, gt=0, description="micro-batches per optimizer step")


class Lora(Frozen):
    """A low-rank adapter that is trained in place of a model's weights: W + (alpha / rank) B A.

    Source: Hu et al. 2022, LoRA: low-rank adaptation of large language models, arXiv 2106.09685.
    """

    rank: int = Field(default=16, ge=1, description="rows of A and columns of B")
    alpha: float = Field(default=32.0, gt=0, description="the update is B A times alpha / rank")
    targets: tuple[str, ...] = Field(
        default=(ALL_LINEAR,),
        min_length=1,
        description='ends of the names of linear layers, such as ["q_proj", "v_proj"]; "all-linear": all but the head',
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _one_or_several(cls, targets: object) -> object:
        return (targets,) if isinstance(targets, str) else targets

    @field_validator("targets")
    @classmethod
    def _names_of_layers(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if "" in targets:
            raise ValueError('a name is empty; name the ends of the names of layers, or "all-linear"')
        if ALL_LINEAR in targets and len(targets) > 1:
            raise ValueError(f'"{ALL_LINEAR}" takes all layers; name it alone, or leave it out')
        return targets
