"""The door to the paradigms' code: from a checkpoint's folder to something that recommends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mmgrid.backbone.load import LOAD_ERRORS
from mmgrid.data import Calendar
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.pooled import Pooled
from mmgrid.paradigms.sasrec import Sasrec
from mmgrid.paradigms.sasrec_model import MODEL_TYPE as SASREC
from mmgrid.paradigms.semb import Semb
from mmgrid.paradigms.semb_model import MODEL_TYPE as SEMB

FACTS_FILE = "mmgrid.json"

# A checkpoint says what it is in its config: the name under which the Auto classes know its model.
LOADERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {SEMB: Semb.load, SASREC: Sasrec.load}


class CheckpointError(ValueError):
    """The folder is no checkpoint that can be loaded; the message says why."""


def open_checkpoint(folder: Path, paradigm: str | None = None) -> tuple[Paradigm, nn.Module]:
    """The paradigm and the model of a checkpoint folder, ready to recommend.

    A folder says of what paradigm it is; any language model can be opened as `pooled`, if that is asked for.
    """
    if paradigm == Pooled.name:
        return _loaded(Pooled.load, folder)
    try:
        model_type = json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: no checkpoint: its config.json cannot be read ({error})") from None
    if model_type not in LOADERS:
        raise CheckpointError(f"{folder}: a {model_type!r} is no recommender; known are {', '.join(LOADERS)}")
    return _loaded(LOADERS[model_type], folder)


def _loaded(load: Callable[[Path], tuple[Any, Any]], folder: Path) -> tuple[Paradigm, nn.Module]:
    try:
        return load(folder)
    except LOAD_ERRORS as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be loaded: {error}") from error


def facts(folder: Path) -> dict[str, Any]:
    """What `mmgrid.json` says of a checkpoint: paradigm, domain, phase, calendar, recipe."""
    try:
        return json.loads((folder / FACTS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {FACTS_FILE} cannot be read ({error})") from None


def trained_until(about: dict[str, Any]) -> int | None:
    """From what `facts` says of a checkpoint: the end (ms) of the newest phase that it was trained on.

    None for what was trained on no phase, such as a base, or does not say, such as a merge.
    """
    if not about.get("phase") or "phases" not in about:
        return None
    phase = about.get("recipe", {}).get("until", about["phase"])  # `all` ends where the grid's newest phase ends
    return Calendar.from_dates(about["phases"]).phase("phase2" if phase == "all" else phase).end
