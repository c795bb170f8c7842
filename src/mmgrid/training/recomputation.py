"""Trains without keeping activations: each layer computes its own again in the backward pass (activation checkpointing).

Source: Chen et al. 2016, Training deep nets with sublinear memory cost. The weights come out bit for bit the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from mmgrid.training.fit import TrainingError


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Within it, the layers of a model keep their inputs only.

    Raises:
        TrainingError: the model's code does not offer it.
    """
    any_model: Any = model
    # Transformers renames the methods; the old names work until version 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or any_model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or any_model.gradient_checkpointing_disable
    try:
        enable()  # by default without re-entrance, which several processes need
    except (ValueError, AttributeError) as error:
        raise TrainingError(
            f"training.recompute_activations: {type(model).__name__} does not offer it ({error}); remove the key"
        ) from error
    try:
        yield
    finally:
        disable()
