"""Moving a live model along a direction, so that a sweep over λ never touches the disk."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmgrid.merging.errors import MergeError, listing


@torch.no_grad()
def walk(model: nn.Module, direction: Mapping[str, Tensor], *, scale: float) -> None:
    """Move a live model in place: θ ← θ + scale · τ.

    Args:
        model: parameters and buffers of any floating-point type, on any device; tied ones are moved once.
        direction: name in the model's state dict → τ, of the same shape; float32 on the model's device is fastest.
            Tensors that it does not name stay.
        scale: how far; negative goes back.

    Raises:
        MergeError: the direction names what the model lacks, or has another shape; nothing was moved.
    """
    state = _matching(model, direction)
    if scale == 0:
        return
    moved: set[int] = set()
    for name, tensor in state.items():
        if tensor.data_ptr() in moved:
            continue
        moved.add(tensor.data_ptr())
        step = direction[name].to(tensor.device)
        if tensor.dtype == torch.float32:
            tensor.add_(step, alpha=scale)
        else:
            tensor.copy_(tensor.float().add_(step, alpha=scale))


class Line:
    """The line Θ(λ) = Θ₀ + λ τ through a live model, for sweeps.

    Each point is computed from Θ₀, not from the point before: twenty steps do not add up twenty roundings, and a
    model in bfloat16 comes back to where it was.
    """

    def __init__(self, model: nn.Module, direction: Mapping[str, Tensor]) -> None:
        state = _matching(model, direction)
        self._model = model
        self._steps = {name: direction[name].to(tensor.device, torch.float32) for name, tensor in state.items()}
        self._start = {name: tensor.detach().clone() for name, tensor in state.items()}

    @torch.no_grad()
    def at(self, scale: float) -> nn.Module:
        """The model, moved to Θ₀ + scale · τ."""
        state = self._model.state_dict(keep_vars=True)
        for name, start in self._start.items():
            target = state[name].data
            if scale == 0:
                target.copy_(start)
            elif target.dtype == torch.float32:
                torch.add(start, self._steps[name], alpha=scale, out=target)
            else:
                target.copy_(torch.add(start.float(), self._steps[name], alpha=scale))
        return self._model


def _matching(model: nn.Module, direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    unknown = set(direction) - set(state)
    if unknown:
        raise MergeError(f"the model has no {listing(unknown)}; a direction is named like the model's state dict")
    for name, step in direction.items():
        if step.shape != state[name].shape:
            raise MergeError(f"tensor {name}: shapes differ: model {list(state[name].shape)}, {list(step.shape)}")
        if not state[name].is_floating_point():
            raise MergeError(f"tensor {name}: holds whole numbers, and cannot be moved")
    return {name: state[name] for name in direction}
