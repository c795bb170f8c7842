"""What a training or an evaluation has to compute: arithmetic, memory traffic, and operations started. No torch.

Estimates, for plans; `Counts` says where its formulas come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from mmgrid.backbone.shape import Shape
from mmgrid.machine.rates import Rate
from mmgrid.training.recipe import ALL_LINEAR, Lora

CALLS_PER_LAYER = 110.0  # operations of a layer in a training step: forward, backward and optimizer
STEP_SECONDS = 3e-3  # of the training loop itself
EXAMPLE_SECONDS = 1e-4  # to draw an example and put it into a batch
UPDATE_BYTES = 32.0  # read and written per weight by AdamW: weight, gradient and two moments, in float32
WEIGHT_BYTES = 4.0  # of a weight in float32


@dataclass(frozen=True)
class Work:
    """An amount of work.

    flops: floating-point operations in `precision`. bytes: memory traffic beside them. calls: operations started one
    after the other. seconds: of a core, for what is no arithmetic.
    """

    flops: float = 0.0
    bytes: float = 0.0
    calls: float = 0.0
    seconds: float = 0.0
    precision: str = "float32"

    def on(self, rate: Rate) -> float:
        """Seconds on one device, or on one core."""
        computed, started = self.flops / rate.of(self.precision), self.calls * rate.call
        # A GPU computes while the next operations are started.
        return (max(computed, started) if rate.is_gpu else computed + started) + self.bytes / rate.bytes + self.seconds


def defaults(recipe: type[BaseModel] | None, given: Mapping[str, Any]) -> Any:
    """The values of a recipe as attributes: those `given` in a cell, which leaves some out, and the defaults."""
    return SimpleNamespace(**{**(_defaults(recipe) if recipe is not None else {}), **given})


@cache
def _defaults(recipe: type[BaseModel]) -> dict[str, Any]:
    return {name: field.get_default() for name, field in recipe.model_fields.items()}


def training(
    values: Any,
    *,
    examples: float,
    flops: float,
    layers: float,
    weights: float,
    recomputed: bool = False,
    shape: Shape | None = None,
) -> Work:
    """A whole training.

    Args:
        values: of the recipe, for one phase.
        examples: of an epoch.
        flops: of one example, forward only.
        layers: through which a step goes.
        weights: of the model.
        recomputed: whether activations are computed again in the backward pass.
        shape: of the backbone, if there is one.
    """
    least = getattr(values, "least_steps", 0) or 0
    least = least if isinstance(least, int) else 0
    steps = max(examples * values.epochs / values.batch_size, least, 1.0)
    passes = (3.0 if getattr(values, "lora", None) is None else 2.0) + recomputed
    trained = trained_weights(values, weights, shape)
    return Work(
        flops=steps * values.batch_size * flops * passes,
        bytes=steps * trained * UPDATE_BYTES,
        calls=steps * values.accumulation * layers * CALLS_PER_LAYER,
        seconds=steps * (STEP_SECONDS + values.batch_size * EXAMPLE_SECONDS),
        precision=values.precision,
    )


def trained_weights(values: Any, weights: float, shape: Shape | None) -> float:
    """The number of weights that a training changes: all of them, or those of its LoRA adapter.

    Args:
        weights: of the model, with all of its towers.
        shape: of the backbone, whose layers all towers have.
    """
    given = getattr(values, "lora", None)
    if given is None or shape is None:
        return weights
    lora = Lora.model_validate(given)
    every = lora.targets == (ALL_LINEAR,)
    tables = shape.weights - shape.body_weights if weights == shape.weights else shape.table_weights
    layers = round((weights - tables) / shape.layer_weights)
    return lora.rank * sum(
        float(inward + outward)
        for layer in (*range(shape.layers), *range(layers - shape.layers))  # those of a second tower begin anew
        for name, (inward, outward) in shape.linear_layers.items()
        if every or any(f".layers.{layer}.{name}".endswith(f".{target}") for target in lora.targets)
    )
