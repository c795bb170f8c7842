"""Arguments of the commands that read and merge models: sources, options of a method, threads."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from mmgrid.cli.folders import Folders

Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Threads. Default: one per core.")]


def options_of(texts: list[str], example: str) -> dict[str, Any]:
    """Options from `KEY=VALUE`, VALUE being YAML."""
    import yaml

    from mmgrid.files.bounded_yaml import load_yaml

    values = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise typer.BadParameter(f"{text}: must be KEY=VALUE, e.g. {example}", param_hint="--option")
        if key.strip() in values:
            raise typer.BadParameter(f"{key.strip()} is given twice", param_hint="--option")
        try:
            values[key.strip()] = load_yaml(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise typer.BadParameter(f"{text}: {' '.join(str(error).split())}", param_hint="--option") from error
    return values


def source_of(text: str, folder: Folders) -> dict[str, Any]:
    """A source from `[NAME=]PATH[:WEIGHT]`, PATH being a cell's name with a grid. Paths that exist may hold = and colons."""
    path, weight = _weighted(text)
    if not (text.partition("=")[0] and path.rpartition("=")[2]) and not (path and Path(path).exists()):
        raise typer.BadParameter(f"{text!r}: must be [NAME=]MODEL[:WEIGHT]", param_hint="--model")
    source: dict[str, Any] = {}
    name, separator, rest = text.partition("=")
    if separator and Path(name).exists() and not Path(path).exists() and _is_number(rest):
        raise typer.BadParameter(f"{text}: a weight stands behind a colon: {name}:{rest}", param_hint="--model")
    if separator and name and "/" not in name and not Path(path).exists():
        source["name"] = name
        path, weight = _weighted(rest)
    if weight is not None:
        source["weight"] = weight
    return {**source, "path": folder(path)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _weighted(text: str) -> tuple[str, float | None]:
    """A path and the weight behind its last colon, if there is one."""
    before, separator, after = text.rpartition(":")
    if not separator or Path(text).exists():
        return text, None
    if _is_number(after) and math.isfinite(float(after)):
        return before, float(after)
    if Path(before).exists():
        raise typer.BadParameter(f"{text}: {after!r} is no weight, which is a finite number", param_hint="--model")
    return text, None  # the colon is part of the path, as in C:\models
