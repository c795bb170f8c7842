"""How a training computes: the attention's implementation, compiled layers, weights in bfloat16.

Each is put into a live model for the duration of its training, and taken out again: what is saved is a plain model.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from transformers import PreTrainedModel

from mmgrid.training.errors import TrainingError
from mmgrid.training.recipe import Attention, TrainingRecipe


@contextmanager
def computing(model: nn.Module, recipe: TrainingRecipe) -> Iterator[None]:
    """Within it, the model computes as the recipe says.

    Raises:
        TrainingError: the model or the machine cannot do it.
    """
    with ExitStack() as stack:
        if recipe.attention != "sdpa":
            stack.enter_context(_attending(model, recipe.attention))
        if recipe.precision == "bf16-weights":
            stack.enter_context(_in_bf16(model))
        if recipe.compile:
            stack.enter_context(compiled(model))
        yield


@contextmanager
def compiled(model: nn.Module, backend: str = "inductor") -> Iterator[None]:
    """Each layer is compiled for batches of any shape. All layers of a kind share their code, so the model's depth
    does not matter; names of weights stay.

    Raises:
        TrainingError: the model has no layers, or there is no compiler for them.
    """
    layers = [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack]
    if not layers:
        raise TrainingError(f"compile: {type(model).__name__} has no layers; set compile = false")
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is not a leaf.*", category=UserWarning)  # torch asks itself
            yield
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"compile: the layers cannot be compiled here ({reason}); set compile = false") from error
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


@contextmanager
def _attending(model: nn.Module, attention: Attention) -> Iterator[None]:
    if attention == "flash_attention_2":
        _check_flash()
    towers = [one for one in model.modules() if isinstance(one, PreTrainedModel) and one._supports_attention_backend]
    if not towers:
        raise TrainingError(
            f'attention = "{attention}": {type(model).__name__} computes attention itself; set attention = "sdpa"'
        )
    before = [(tower, str(tower.config._attn_implementation)) for tower in towers]
    try:
        for tower in towers:
            tower.set_attn_implementation(attention)
    except (ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f'attention = "{attention}": {reason}; set attention = "sdpa"') from error
    try:
        yield
    finally:
        for tower, former in before:
            tower.set_attn_implementation(former)


def _check_flash() -> None:
    if not torch.cuda.is_available():
        raise TrainingError('attention = "flash_attention_2" needs an NVIDIA GPU; set attention = "sdpa"')
    if find_spec("flash_attn") is None:
        raise TrainingError(
            'attention = "flash_attention_2" needs flash-attn, which is not installed: '
            '`pip install flash-attn --no-build-isolation`, or set attention = "sdpa"'
        )


@contextmanager
def _in_bf16(model: nn.Module) -> Iterator[None]:
    """Weights in bfloat16, but for single numbers, such as a temperature: its steps are finer than bfloat16's.

    At the end they are float32 again, with the values of bfloat16.
    """
    _cast(model, torch.bfloat16)
    try:
        yield
    finally:
        _cast(model, torch.float32)


@torch.no_grad()
def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    for weight in model.parameters():
        if weight.dim():
            weight.data = weight.data.to(dtype)
            weight.grad = None
