"""Finds a source of a merge, and opens it as named tensors: a model's folder, an adapter on its model, or a family's part."""

from pathlib import Path

from mmgrid.files.impostors import no_file
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.adapter_model import chain_under, is_adapter
from mmgrid.merging.models.adapter_names import FACTOR
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.family.place import family_of
from mmgrid.merging.models.hub import found
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.source import Source

__all__ = ["Source", "found", "is_adapter", "open_source"]

_READ = frozenset({".json", ".safetensors", ".model"})  # ends of names of files that mean something in a model's folder


def open_source(
    path: Path, onto: Path | None = None, base: Path | None = None, base_onto: Path | None = None
) -> Source:
    """Open a model's folder, an adapter's folder as the model with the adapter merged into it, or a part of a family.

    Args:
        path: a folder or a safetensors file; of a family with several domains the folder `parts/DOMAIN`.
        onto: for an adapter: the folder of its model, which may be an adapter itself.
        base: for an adapter: its model, if neither `onto` nor its configuration names a folder.
        base_onto: for a base that is an adapter: its model.

    Raises:
        MergeError: weights are missing or incomplete, the adapter is of another kind, or a file is a pipe or a device.
    """
    _check_plain(path)
    if family_of(path) is not None:
        from mmgrid.merging.models.family.member import open_member  # which most merges do without

        return open_member(path)
    if not is_adapter(path):
        model = open_model(path)
        try:
            _check_no_factors(model)
        except MergeError:
            model.close()
            raise
        return model
    return LoraFolder(path, *chain_under(path, onto, base, base_onto))


def _check_plain(path: Path) -> None:
    """Check that what a model's folder holds under the name of a file can be read as one.

    A pipe that nobody fills and a link to a device have no end; a config that is a broken link, as in a cache whose blobs
    were removed, would count as none.

    Raises:
        MergeError: it cannot.
    """
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        wrong = no_file(file)
        if wrong and (file.suffix in _READ or (file.exists() and not file.is_dir())):
            raise MergeError(f"{file}: {wrong}")


def _check_no_factors(model: Source) -> None:
    """Check that what is opened as a model holds no factors of LoRA: averages of A and of B are no average of B A.

    Raises:
        MergeError: it does.
    """
    found = {(match["module"], match["kind"]) for name in model if (match := FACTOR.match(name))}
    whole = [module for module, kind in sorted(found) if kind == "lora_A" and (module, "lora_B") in found]
    if whole:
        raise MergeError(
            f"{model.path}: holds factors of LoRA ({whole[0]}.lora_A and lora_B), which mean nothing one by one. Name the "
            f"adapter's folder, with its {ADAPTER_CONFIG} and without a model.safetensors"
        )
