"""Finds the weight files of a model folder, in the order in which transformers does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mmgrid.files import inside
from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.file_kinds import impostor

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_SHARD = re.compile(r"-\d{5}-of-(?!00001\b)\d{5}\.safetensors$")


def weight_files(path: Path) -> tuple[list[Path], set[str]]:
    """The weight files of a folder, and the tensors that an index names."""
    if path.is_file():
        return [path], set()
    if not path.is_dir():
        raise MergeError(f"{path}: does not exist. A source is a folder on this machine; download the model first")
    if (path / WEIGHTS_FILE).exists():
        return [path / WEIGHTS_FILE], set()
    if (path / INDEX_FILE).exists():
        return _shards(path)
    if (path / "adapter_config.json").exists():
        raise MergeError(
            f"{path}: is a LoRA adapter, not a model. Merge it into its base first (peft: "
            f"`PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)`)"
        )
    if (path / "family.json").exists() or (path / "member.json").exists():
        raise MergeError(
            f"{path}: holds a family of models; write the checkpoint first: mmgrid expand {path} -o FOLDER"
        )
    found = sorted(path.glob("*.safetensors"))
    if shards := [file.name for file in found if _SHARD.search(file.name)]:
        raise MergeError(
            f"{path}: holds {listing(shards)}, which are parts of a model, and no {INDEX_FILE}, which says whether that is "
            "all of them; fetch it, too"
        )
    if len(found) == 1:
        return found, set()
    if found:
        names = listing(file.name for file in found)
        raise MergeError(f"{path}: holds {names} and neither {WEIGHTS_FILE} nor {INDEX_FILE}: name one file")
    pickled = sorted([*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")])
    hint = f" ({pickled[0].name} is pickled and never read: save the model as safetensors)" if pickled else ""
    if gguf := sorted(path.glob("*.gguf")):
        hint = f" ({gguf[0].name} is a GGUF file, which is quantised: name the model that it was made from)"
    below = [str(folder.relative_to(path)) for folder in _folders_with_models(path)]
    hint += f". Name a folder in it: {listing(below)}" if below else ""
    raise MergeError(f"{path}: contains no safetensors{hint}")


def _folders_with_models(path: Path) -> list[Path]:
    """Folders below that hold models or adapters: the checkpoints of a trainer, several adapters, the Hub's snapshots."""
    names = ("*.safetensors", "adapter_config.json", INDEX_FILE)
    return sorted(
        {file.parent for depth in ("*", "snapshots/*") for name in names for file in path.glob(f"{depth}/{name}")}
    )


def _shards(path: Path) -> tuple[list[Path], set[str]]:
    index = path / INDEX_FILE
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        shards = sorted({inside(path, shard, allow_links=True) for shard in places.values()})
    except MALFORMED as error:
        problem = impostor(index) or f"is not an index of shards ({error!r}); fetch the file again"
        raise MergeError(f"{index}: {problem}") from error
    absent = [shard.name for shard in shards if not _is_file(shard)]
    if absent or not shards:
        raise MergeError(f"{index}: shards are missing: {listing(absent) or 'it names none'}; fetch them again")
    return shards, set(places)


def _is_file(path: Path) -> bool:
    """Whether a path leads to a file; no for impossible paths, such as names of 300 characters."""
    try:
        return path.is_file()
    except OSError:
        return False
