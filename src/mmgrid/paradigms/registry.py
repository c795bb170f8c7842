"""The door to the paradigms' code: from a checkpoint's folder to something that recommends."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmgrid.backbone.load import LOAD_ERRORS
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.pooled.paradigm import Pooled
from mmgrid.paradigms.sasrec.model import MODEL_TYPE as SASREC
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.paradigms.semb.model import MODEL_TYPE as SEMB
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.text.paradigm import Text

# A checkpoint says what it is in its config: under `mmgrid`, where its model is a plain language model, else by the
# name under which the Auto classes know its model.
LOADERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    Semid.name: Semid.load,
    Text.name: Text.load,
    SEMB: Semb.load,
    SASREC: Sasrec.load,
}


def open_checkpoint(
    folder: Path, paradigm: str | None = None, asked: Mapping[str, Any] | None = None
) -> tuple[Paradigm, nn.Module]:
    """The paradigm and the model of a checkpoint folder, ready to recommend.

    A folder says of what paradigm it is; any language model can be opened as `pooled`, if that is asked for.
    `asked`: values of its recipe that say how it is asked (its `ASKED`), instead of those that it was saved with.
    """
    if paradigm == Pooled.name:
        return _loaded(Pooled.load, folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = config.get("mmgrid", {}).get("paradigm") or config["model_type"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: no checkpoint: its config.json cannot be read ({error})") from None
    if kind not in LOADERS:
        raise CheckpointError(f"{folder}: a {kind!r} is no recommender; known are {', '.join(LOADERS)}")
    opened: Any
    opened, model = _loaded(LOADERS[kind], folder)
    if asked:
        opened.recipe = type(opened.recipe).model_validate(opened.recipe.model_dump() | dict(asked))
    return opened, model


def _loaded(load: Callable[[Path], tuple[Any, Any]], folder: Path) -> tuple[Paradigm, nn.Module]:
    try:
        return load(folder)
    except LOAD_ERRORS as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be loaded: {error}") from error
