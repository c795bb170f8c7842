"""Says of a file in a model's folder what it is instead: what `files.impostors` finds, packed or cut, or of another format."""

import json
from pathlib import Path
from typing import Any

from mmgrid.files.first_bytes import PACKED, kind_of
from mmgrid.files.impostors import START_BYTES
from mmgrid.files.impostors import impostor as of_start
from mmgrid.merging.errors import MergeError

_AGAIN = "download the file again"
_KEYS_OF_ERRORS = {"error", "errors", "message", "detail", "code", "status", "statusCode", "documentation_url"}


def impostor(path: Path) -> str | None:
    """What a file is, and what to do, if it is surely no file of a model; None otherwise, also for absent files.

    Ask only for files that could not be read as what they should be, or for texts: weights may begin with any bytes.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
    except OSError:
        return None
    return of_start(start) or _other_format(start)


def _other_format(start: bytes) -> str | None:
    kind = kind_of(start)
    if kind is None:
        return None
    if kind == "GGUF":
        return "is in GGUF format; only safetensors are merged, so name the model that it was made from"
    if kind == "pickle":
        return "is pickled, and never read: save the model as safetensors"
    if kind == "zip" and (b"data.pkl" in start or b"/version" in start or b"/byteorder" in start):
        return "is pickled by PyTorch, and never read: save the model as safetensors"
    if kind in PACKED:
        return f"is packed ({kind}); unpack it"
    return f"is in {kind} format; save the model as safetensors"


def check_companion(path: Path) -> None:
    """Check a file of config or tokenizer, if it is there.

    Raises:
        MergeError: it is surely something else, or cut.
    """
    problem = impostor(path)
    if problem is not None:
        raise MergeError(f"{path}: {problem}")
    if path.suffix == ".json" and path.is_file():
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise MergeError(f"{path}: is not JSON ({error}), perhaps cut; {_AGAIN}") from error
        if _is_error(value):
            raise MergeError(f"{path}: is the error message of a server ({str(value)[:80]}); {_AGAIN}")
        if path.name in _OBJECTS and not isinstance(value, dict):
            raise MergeError(f"{path}: is not a JSON object; {_AGAIN}")


_OBJECTS = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def _is_error(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and value.keys() <= _KEYS_OF_ERRORS
