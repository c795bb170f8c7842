"""Finds the models of a mergekit file, and compares their tokenizers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmgrid.files import HubError, HubName
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.mergekit.file import MergekitFile, ModelName
from mmgrid.merging.models.hub import downloaded


def folder_of(model: ModelName, file_folder: Path, where: str) -> Path:
    """The folder of a model: as given, relative to the mergekit file's folder, or on the Hub.

    Raises:
        MergeError: it is in none of these places.
    """
    for text in (str(model), model.path):  # a folder's name may contain an @
        for path in (Path(text).absolute(), file_folder / text):
            if path.exists():
                return path
    name = HubName.parse(model.path, without_organisation=True)
    if name is None:
        raise MergeError(f"{where}: model {model.path!r} is neither a folder on this machine nor a name on the Hub")
    try:
        return downloaded(HubName(name.repo, model.revision))
    except HubError as error:
        raise MergeError(
            f"{where}: model {model.path!r} is not a folder on this machine. On the Hub: {error}"
        ) from error


def check_tokenizers(file: MergekitFile, folders: Mapping[str, Path], note: Callable[[str], None]) -> None:
    """Checks that arranging token rows by a tokenizer would change nothing; anything else is not supported.

    Raises:
        MergeError: the models' tokenizers differ, or the file changes token rows.
    """
    assert file.tokenizer is not None
    for key in ("tokens", "pad_to_multiple_of"):
        if file.tokenizer.get(key):
            raise MergeError(f"{file.where}: tokenizer: {key}: changing token rows is not supported; use mergekit")
    vocabularies = {name: _vocabulary(folder) for name, folder in folders.items()}
    absent = [name for name, tokens in vocabularies.items() if tokens is None]
    if absent:
        raise MergeError(f"{file.where}: tokenizer: {listing(absent)} has no tokenizer.json; leave tokenizer out")
    first, *others = vocabularies
    for other in others:
        if vocabularies[other] != vocabularies[first]:
            one, two = vocabularies[first] or {}, vocabularies[other] or {}
            differing = [token for token in one.keys() | two.keys() if one.get(token) != two.get(token)]
            raise MergeError(
                f"{file.where}: tokenizer: {first} and {other} differ in {len(differing)} tokens "
                f"({listing(map(repr, differing), 3)}): rearranging token rows is not supported. Leave tokenizer out "
                f"if the rows match anyway, or bring the models to one vocabulary first (mergekit-tokensurgeon)"
            )
    size = len(vocabularies[first] or {})
    if any(_rows(folder) not in (None, size) for folder in folders.values()):
        note(
            f"tokenizer: token rows beyond the tokenizer's {size} tokens are merged like the others; "
            f"mergekit removes them"
        )


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """token → id of a folder's `tokenizer.json`."""
    try:
        value = json.loads((folder / "tokenizer.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MergeError(f"{folder / 'tokenizer.json'}: is not JSON: {error}") from error
    found: Any = value.get("model", {}).get("vocab", {})
    tokens = dict(found) if isinstance(found, Mapping) else {entry[0]: n for n, entry in enumerate(found)}
    return tokens | {each["content"]: each["id"] for each in value.get("added_tokens") or []}


def _rows(folder: Path) -> int | None:
    try:
        return json.loads((folder / "config.json").read_bytes()).get("vocab_size")
    except (OSError, ValueError):
        return None
