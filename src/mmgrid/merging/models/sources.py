"""Finds a source of a merge, and opens it as named tensors: a model's folder, an adapter on its model, or a family's part."""

from pathlib import Path

from mmgrid.merging.models.adapter_model import model_under
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.family.place import family_of
from mmgrid.merging.models.hub import found
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.source import Source

__all__ = ["Source", "found", "is_adapter", "open_source"]


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return (path / ADAPTER_CONFIG).is_file() and not any(
        (path / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )


def open_source(path: Path, onto: Path | None = None, base: Path | None = None) -> Source:
    """Open a model's folder, an adapter's folder as the model with the adapter merged into it, or a part of a family.

    Args:
        path: a folder or a safetensors file; of a family with several domains the folder `parts/DOMAIN`.
        onto: for an adapter: the folder of its model.
        base: for an adapter: its model, if neither `onto` nor its configuration names a folder.

    Raises:
        MergeError: weights are missing or incomplete, or the adapter is of another kind.
    """
    if family_of(path) is not None:
        from mmgrid.merging.models.family.member import open_member  # which most merges do without

        return open_member(path)
    if not is_adapter(path):
        return open_model(path)
    return LoraFolder(path, model_under(path, onto, base))
