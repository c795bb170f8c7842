"""Trains without keeping activations: each layer computes its own again in the backward pass (activation checkpointing).

Source: Chen et al. 2016, Training deep nets with sublinear memory cost. The weights come out bit for bit the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from mmgrid.training.errors import TrainingError

# Transformers renames its methods and their argument; the old names work until version 6.
_NAMES = ("activation_checkpointing", "gradient_checkpointing")


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Within it, the layers of a model keep their inputs only.

    Raises:
        TrainingError: the model's code does not offer it.
    """
    name = next((name for name in _NAMES if hasattr(model, f"{name}_enable")), None)
    if name is None or not isinstance(model, PreTrainedModel):
        raise _refusal(model, "it is no model of Transformers")
    options: Any = {f"{name}_kwargs": {"use_reentrant": False}}  # several processes need it so
    try:
        getattr(model, f"{name}_enable")(**options)
    except ValueError as error:
        raise _refusal(model, str(error)) from error
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()


def _refusal(model: nn.Module, reason: str) -> TrainingError:
    return TrainingError(
        f"training.recompute_activations: {type(model).__name__} does not offer it ({reason}); remove the key"
    )
