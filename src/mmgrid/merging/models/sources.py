"""Finds a source of a merge, and opens it as named tensors: a model's folder, or a LoRA adapter on its model."""

from pathlib import Path

from mmgrid.merging.models.hub import found
from mmgrid.merging.models.lora import ADAPTER_CONFIG, LoraFolder, model_under
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.source import Source

__all__ = ["Source", "found", "is_adapter", "open_source"]


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return (path / ADAPTER_CONFIG).is_file() and not any(
        (path / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )


def open_source(path: Path, onto: Path | None = None, base: Path | None = None) -> Source:
    """Open a model's folder, or an adapter's folder as the model with the adapter merged into it.

    Args:
        path: a folder or a safetensors file.
        onto: for an adapter: the folder of its model.
        base: for an adapter: its model, if neither `onto` nor its configuration names a folder.

    Raises:
        MergeError: weights are missing or incomplete, or the adapter is of another kind.
    """
    if not is_adapter(path):
        return open_model(path)
    return LoraFolder(path, model_under(path, onto, base))
