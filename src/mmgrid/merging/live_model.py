"""Moves the weights of a live model along a direction, so that a sweep over λ never touches the disk."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmgrid.merging.errors import MergeError, listing

_WIDE = (torch.float32, torch.float64)  # computed in their own type; narrower types are computed in float32


@torch.no_grad()
def walk(model: nn.Module, direction: Mapping[str, Tensor], *, scale: float) -> None:
    """Move a live model in place: θ ← θ + scale · τ.

    Args:
        model: parameters and buffers of any floating-point type, on any device; tied ones are moved once.
        direction: name in the model's state dict → τ, of the same shape; float32 on the model's device is fastest.
            Tensors that it does not name do not move.
        scale: the factor on τ; negative values move back.

    Raises:
        MergeError: the direction names a tensor that the model lacks, has another shape, or differs between tied
            parameters; the scale is not finite. Nothing was moved.
    """
    state = _matching(model, direction)
    _check_finite(scale)
    if scale == 0:
        return
    for name, tensor in state.items():
        step = direction[name].to(tensor.device)
        if tensor.dtype in _WIDE:
            tensor.add_(step, alpha=scale)
        else:
            tensor.copy_(tensor.float().add_(step, alpha=scale))


class Line:
    """The line Θ(λ) = Θ₀ + λ τ through a live model, for sweeps.

    Each point is computed from Θ₀ and not from the previous point, so rounding errors do not add up, and a model in
    bfloat16 returns exactly to Θ₀.
    """

    def __init__(self, model: nn.Module, direction: Mapping[str, Tensor]) -> None:
        state = _matching(model, direction)
        self._model = model
        self._steps = {
            name: direction[name].to(tensor.device, tensor.dtype if tensor.dtype in _WIDE else torch.float32)
            for name, tensor in state.items()
        }
        self._start = {name: tensor.detach().clone() for name, tensor in state.items()}

    def at(self, scale: float) -> nn.Module:
        """The model, moved to Θ₀ + scale · τ.

        Raises:
            MergeError: the scale is not finite.
        """
        return self.at_each(dict.fromkeys(self._start, scale))

    @property
    def names(self) -> list[str]:
        """The tensors that move."""
        return list(self._start)

    @torch.no_grad()
    def at_each(self, scales: Mapping[str, float]) -> nn.Module:
        """The model with each tensor moved by a scale of its own; `scales` has all of `names`.

        Raises:
            MergeError: a scale is not finite. Nothing was moved.
        """
        for scale in scales.values():
            _check_finite(scale)
        state = self._model.state_dict(keep_vars=True)
        for name, start in self._start.items():
            target, scale = state[name].data, scales[name]
            if scale == 0:
                target.copy_(start)
            elif target.dtype in _WIDE:
                torch.add(start, self._steps[name], alpha=scale, out=target)
            else:
                target.copy_(torch.add(start.float(), self._steps[name], alpha=scale))
        return self._model


def _check_finite(scale: float) -> None:
    if not math.isfinite(scale):
        raise MergeError(f"scale is {scale}; it must be a finite number")


def _matching(model: nn.Module, direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a direction moves; tied ones once."""
    state = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    unknown = set(direction) - set(state)
    if unknown:
        raise MergeError(f"the model has no {listing(unknown)}; a direction is named like the model's state dict")
    moved: dict[Any, str] = {}
    for name, step in direction.items():
        tensor = state[name]
        if step.shape != tensor.shape:
            raise MergeError(f"tensor {name}: shapes differ: model {list(tensor.shape)}, direction {list(step.shape)}")
        if not tensor.is_floating_point():
            raise MergeError(f"tensor {name}: holds whole numbers, and cannot be moved")
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        twin = moved.setdefault(place, name)
        if twin != name and not (step is direction[twin] or step.equal(direction[twin].to(step))):
            raise MergeError(
                f"tensors {twin} and {name} are tied, but the direction differs between them; it must be the same for both"
            )
    return {name: state[name] for name in moved.values()}
