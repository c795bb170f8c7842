"""Which files of a model's folder are published, and in which form.

Only kinds of files that belong to a model are taken, by their names: never records of a store, logs, locks, unfinished
files or pickled weights. Paths of this machine are taken out of the small files, and a secret in one of them stops
everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards import CARD_FILE, read_json, without_private_paths, without_private_values
from mmgrid.files import HubError, inside, name_of, sha256_file

DIGESTS_FILE = "SHA256SUMS"  # in the format of sha256sum
WEIGHTS = ".safetensors"
_SUFFIXES = (WEIGHTS, ".json", ".model", ".jinja", ".tiktoken")
_RECORDED_SUFFIXES = (".py", ".txt", ".spm", ".codes")
_NAMES = ("vocab.txt", "merges.txt", "mergekit_config.yml", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")
_OF_THIS_MACHINE = (
    "record.json",
    "training.json",
    "trainer_state.json",
    "digests.json",
    "store.json",
    "expansion.json",
)
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model")
_ADAPTER = "adapter_config.json"
_SECRETS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}"
    rb"|\bsk-[A-Za-z0-9_-]{32,}"
)

Content = Path | bytes


def uploads(folder: Path, card: str) -> dict[str, Content]:
    """Name → content of all files to publish, with the card and the digests.

    Raises:
        HubError: the folder holds no model, or a file contains a secret.
    """
    declared = read_json(folder / "mmgrid.json")
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file() and _belongs(path)]
    more = {file for file in _block_files(declared) if (folder / file).is_file()} | _recorded(folder, declared)
    names += sorted(more - set(names))
    if not {"config.json", _ADAPTER} & set(names) or not any(name.endswith(WEIGHTS) for name in names):
        raise HubError(
            f"{folder}: holds no model: it needs config.json (or {_ADAPTER}) and weights in safetensors; name the folder "
            "of a checkpoint, a merge or an adapter"
        )
    below = str(read_json(folder / _ADAPTER).get("base_model_name_or_path") or "") if _ADAPTER in names else ""
    if below.startswith(".."):
        raise HubError(
            f"{folder}: is a LoRA adapter on {below}, which would be missing where it is fetched; merge it into its model "
            "first: a recipe of `mmgrid merge` with `method: linear` and this folder as its only source"
        )
    found = {name: _public(folder / name) for name in names}
    found[CARD_FILE] = without_private_paths(card).encode()
    for name, content in found.items():
        _check_no_secret(folder / name, content)
    lines = [f"{_digest(content)}  {name}\n" for name, content in sorted(found.items()) if name != CARD_FILE]
    found[DIGESTS_FILE] = "".join(lines).encode()
    return found


def _belongs(path: Path) -> bool:
    name = path.name
    if name.startswith((".", "events-")) or name in _OF_THIS_MACHINE:
        return False
    return name in _NAMES or path.suffix in _SUFFIXES


def _recorded(folder: Path, declared: Mapping[str, Any]) -> set[str]:
    """The files of a model that a merge's record names: its code, and what lies below the folder, such as modules."""
    recorded = declared.get("files")
    found = set()
    for name in recorded if isinstance(recorded, Mapping) else ():
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not hidden and (name.endswith(_RECORDED_SUFFIXES) or _belongs(Path(name))):
            with contextlib.suppress(ValueError):  # it leads out of the folder
                if inside(folder, name, allow_links=True).is_file():
                    found.add(name)
    return found


def _block_files(declared: Mapping[str, Any]) -> Iterable[str]:
    """The files of token blocks, which may be of any kind."""
    blocks = declared.get("blocks")
    rows = blocks.get("rows") if isinstance(blocks, Mapping) else None
    for row in rows if isinstance(rows, list) else ():
        files = row.get("files") if isinstance(row, Mapping) else None
        yield from (file for file in files or () if isinstance(file, str) and Path(file).name == file)


def _public(file: Path) -> Content:
    """The file, or its content without paths of this machine."""
    if file.name == "mergekit_config.yml":
        return without_private_paths(file.read_text(encoding="utf-8")).encode()
    if file.suffix != ".json" or file.name in _VOCABULARIES or file.name.endswith(".index.json"):
        return file
    value = read_json(file)
    public = without_private_values(value)
    if file.name == _ADAPTER:
        below = name_of(Path(str(value.get("base_model_name_or_path") or "")))
        if below is not None:  # a folder of the Hub's cache
            public |= {"base_model_name_or_path": below.repo, "revision": below.revision}
    return file if public == value else (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()


def _check_no_secret(file: Path, content: Content) -> None:
    if isinstance(content, Path) and (content.suffix == WEIGHTS or content.name in _VOCABULARIES):
        return
    data = content.read_bytes() if isinstance(content, Path) else content
    secret = _SECRETS.search(data)
    if secret is not None:
        raise HubError(
            f"{file}: contains what looks like a secret ({secret[0][:6].decode()}…): remove it, and change it where it "
            "is used; nothing was published"
        )


def _digest(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_file(content)
