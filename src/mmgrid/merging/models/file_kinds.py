"""Recognises files that are not what their name says: pointers of Git LFS, error pages, empty and cut files.

A clone without Git LFS, a download through a proxy and an interrupted copy leave files with the right name.
"""

import json
from pathlib import Path

from mmgrid.merging.errors import MergeError

_READ = 512
_AGAIN = "download the file again"


def impostor(path: Path) -> str | None:
    """What a file is, and what to do, if it is surely no file of a model; None otherwise, also for absent files."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_READ)
    except OSError:
        return None
    text = start.lstrip().lower()
    if not start:
        return f"is empty; {_AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; run `git lfs pull` in its folder"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return f"is a web page, such as the error page of a failed download; {_AGAIN}"
    if text.startswith(b"<?xml"):
        return f"is XML, such as the error message of a file store; {_AGAIN}"
    if start.startswith(b"GGUF"):
        return "is a GGUF file; only safetensors are merged, so name the model that it was made from"
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5" and start[2:3] != b"\0"):
        return "is pickled by PyTorch, and never read: save the model as safetensors"
    return None


def check_companion(path: Path) -> None:
    """Check a file of config or tokenizer that is to be copied.

    Raises:
        MergeError: it is surely something else, or cut.
    """
    problem = impostor(path)
    if problem is not None:
        raise MergeError(f"{path}: {problem}")
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise MergeError(f"{path}: is not JSON ({error}), perhaps cut; {_AGAIN}") from error
