"""Fully sharded training: each process holds its share of weights, gradients and moments, and all weights of one layer at
a time (FSDP; Zhao et al. 2023, arXiv 2304.11277), by torch's `fully_shard`.

What is saved is whole, so that a training may go on with any number of processes, sharded or not.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module) -> None:
    """Divide the weights of each layer, and those beside the layers, among the processes, on their devices.

    Single numbers, such as a temperature, cannot be divided: each process has them, with the mean of the gradients.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    numbers = {weight for weight in model.parameters() if not weight.dim()}
    layers = [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack]
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=numbers)
    # The rest stays whole between the passes: losses read the head after the forward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=False, ignored_params=numbers)
    for number in numbers:
        number.data = number.data.to(kind)
        if number.requires_grad:
            number.register_post_accumulate_grad_hook(_take_mean)


def _take_mean(number: Tensor) -> None:
    assert number.grad is not None
    dist.all_reduce(number.grad)
    number.grad /= dist.get_world_size()


def gather(model: nn.Module) -> None:
    """Put whole weights into a sharded model, in main memory. It can be saved then, but no longer be called."""
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in found:  # the head may be the embedding
                found[id(weight)] = nn.Parameter(whole(weight.detach()), requires_grad=weight.requires_grad)
            module._parameters[name] = found[id(weight)]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in main memory. Every process must ask for it."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimizer as that of one process. Every process must ask for it."""
    found = optimizer.state_dict()
    moments = {
        number: {name: whole(value) if isinstance(value, Tensor) else value for name, value in state.items()}
        for number, state in found["state"].items()
    }
    return {**found, "state": moments}


def divide_loaded_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Of a whole state, this process's share; a hook for `Optimizer.register_load_state_dict_pre_hook`."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    of = dict(zip(numbers, weights, strict=True))

    def share(value: Any, weight: Tensor) -> Any:
        if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or isinstance(value, DTensor):
            return value
        if value.shape != weight.shape:  # the number of steps
            return value
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)

    moments = {
        number: {name: share(value, of[number]) for name, value in one.items()}
        for number, one in state["state"].items()
    }
    return {**state, "state": moments}


@torch.no_grad()
def clip_gradients(model: nn.Module, most: float) -> Tensor:
    """Scale the gradients so that the norm of all of them is `most` at most; returns the norm before."""
    shares, wholes = [], []
    for weight in model.parameters():
        if isinstance(weight.grad, DTensor):
            shares.append(weight.grad.to_local())
        elif weight.grad is not None:
            wholes.append(weight.grad)
    here = next(model.parameters()).device
    squares = torch.zeros((), device=here)
    for gradient in shares:
        squares += gradient.float().square().sum()
    dist.all_reduce(squares)
    for gradient in wholes:
        squares += gradient.float().square().sum()
    norm = squares.sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
    for gradient in (*shares, *wholes):
        gradient.mul_(scale)
    return norm
