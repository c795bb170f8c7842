"""LoRA: an adapter of low-rank updates is trained, and the weights below it stay (Hu et al. 2022, arXiv 2106.09685).

PEFT puts its layers into the model, which stays of its own class, so that paradigms train it like any other. What is
saved is the adapter, beside config and tokenizer; the next phase goes on with the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mmgrid.backbone.trained_rows import TrainedRows, train_rows
from mmgrid.cards import read_json
from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.models.adapter_model import model_under
from mmgrid.merging.models.adapter_names import ADAPTER_PREFIX
from mmgrid.merging.models.adapter_rows import ROWS_SUFFIX
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.lora import ADAPTER_FILE
from mmgrid.merging.models.sources import is_adapter, open_source
from mmgrid.merging.output.adapter import Adapter, write_adapter_files
from mmgrid.merging.output.record import relative_path
from mmgrid.seeds import derive
from mmgrid.training.errors import TrainingError
from mmgrid.training.recipe import ALL_LINEAR, Lora

_NAME = "default"  # of the adapter in its layers


def put_adapter(
    model: nn.Module, lora: Lora, start: Path, beside: Mapping[str, int] | None = None, *, seed: int = 0
) -> None:
    """Put an adapter onto a model, which is changed in place: a new one with B = 0, or that of the phase before.

    From then on only the adapter has gradients, and `model.save_pretrained` writes it in place of the weights.

    Args:
        start: the folder that the model was loaded from, of a plain checkpoint or of an adapter.
        beside: what else is trained (see `Paradigm.beside_adapter`).
        seed: of the first A.

    Raises:
        TrainingError: PEFT is not installed, the targets are no linear layers of the model, or the adapter in `start`
            is another one than `lora` says.
        BackboneError: rows of a table cannot be trained by themselves.
        MergeError: the model below the adapter in `start` is not found, or is another one.
    """
    if not isinstance(model, PreTrainedModel):
        raise TrainingError(f"lora: {type(model).__name__} is no model of Transformers; remove the key")
    layers = _with_layers(model, lora, seed)
    beside = beside or {}
    train_rows(model, {name: first for name, first in beside.items() if first})
    for name in (name for name, first in beside.items() if not first):
        model.get_parameter(name).requires_grad_(True)
    base = start
    if is_adapter(start):
        base = model_under(start, None, None)
        _go_on(model, lora, layers, start, base)
    # Paradigms save a model by its own function.
    model.save_pretrained = partial(_save, model, lora, layers, base)  # type: ignore[method-assign]


def trained_parameters(model: nn.Module) -> int:
    """The number of weights with gradients: rank · (in + out) for each layer, and what is trained beside them."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _with_layers(model: PreTrainedModel, lora: Lora, seed: int) -> dict[str, nn.Module]:
    """Inject PEFT's layers; returns the linear layers below them by name."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise TrainingError('lora needs PEFT, which is not installed: pip install "mmgrid[lora]"') from error
    targets = _targets(model, lora)
    sides = [min(model.get_submodule(name).weight.shape) for name in targets]  # type: ignore[arg-type, call-overload]
    if lora.rank > max(sides, default=lora.rank):
        raise TrainingError(
            f"lora.rank: {lora.rank} is more than any of the layers has; B A has at most rank {max(sides)} there, so give "
            "a rank far below it, or train without lora"
        )
    turned = any(isinstance(model.get_submodule(name), Conv1D) for name in targets)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, fan_in_fan_out=turned)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "lora"))
        inject_adapter_in_model(config, model, adapter_name=_NAME)
    return {name: module.base_layer for name, module in model.named_modules() if hasattr(module, "lora_A")}  # type: ignore[misc]


def _targets(model: PreTrainedModel, lora: Lora) -> list[str]:
    """The names of the linear layers that get updates, without the head.

    PEFT's own "all-linear" takes the experts of a mixture, too, which are parameters and no layers; and a name that
    several layers have would reach those that are not linear.
    """
    head = model.get_output_embeddings()
    linear = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    if lora.targets == (ALL_LINEAR,):
        return linear
    for target in lora.targets:
        if not any(_is_end(target, name) for name in linear):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise TrainingError(f"lora.targets: {target}: the model has no linear layer of this name; it has {known}")
    return [name for name in linear if any(_is_end(target, name) for target in lora.targets)]


def _is_end(target: str, name: str) -> bool:
    return f".{name}".endswith(f".{target}")


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """What is trained, by the names of the adapter's file."""
    tables = {name: module for name, module in model.named_modules() if isinstance(module, TrainedRows)}
    rows = {f"{name}.rows": f"{name}{ROWS_SUFFIX}" for name in tables}
    return {
        ADAPTER_PREFIX + rows.get(name, name.replace(f".{_NAME}.", ".")): weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@torch.no_grad()
def _go_on(model: nn.Module, lora: Lora, layers: Mapping[str, nn.Module], start: Path, base: Path) -> None:
    """Take over the adapter in `start`, and below it the weights that it was trained on."""
    stored, trained = load_file(start / ADAPTER_FILE), _trained(model)
    before = read_json(start / ADAPTER_CONFIG)
    shapes = {name: weight.shape for name, weight in stored.items()}
    if shapes != {name: weight.shape for name, weight in trained.items()} or before.get("lora_alpha") != lora.alpha:
        raise TrainingError(
            f"lora: a training goes on with the adapter of the phase before, which has rank {before.get('r')} and alpha "
            f"{before.get('lora_alpha')} ({start}); give it the same rank, alpha and targets"
        )
    for name, weight in trained.items():
        weight.copy_(stored[name])
    with open_source(base) as below:
        for name, layer in layers.items():
            info = below.info(f"{name}.weight")
            values = widen(below.read(f"{name}.weight", 0, info.size), info.dtype)
            layer.weight.copy_(torch.from_numpy(values.reshape(info.shape)))  # type: ignore[operator]


def _save(
    model: PreTrainedModel, lora: Lora, layers: Mapping[str, nn.Module], base: Path, folder: str, **_: Any
) -> None:
    """Write config and adapter into a folder, in place of `model.save_pretrained`."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)  # type: ignore[union-attr]
    tables = {name: module for name, module in model.named_modules() if isinstance(module, TrainedRows)}
    adapter = Adapter(
        {name: weight.detach().cpu().numpy() for name, weight in sorted(_trained(model).items())},
        dict.fromkeys(layers, lora.rank),
        saved=(),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
        base=relative_path(base, Path(folder)).as_posix(),
        alpha=int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        tokens={name: range(len(table.frozen), len(table.frozen) + len(table.rows)) for name, table in tables.items()},
    )
    write_adapter_files(adapter, Path(folder), "float32")
