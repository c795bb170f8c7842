"""Copies an external checkpoint, trained outside this grid, into the store."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.data import LeakageError, Phase
from mmgrid.files import sha256_files
from mmgrid.grid.file.load import GridError
from mmgrid.merging import BlockTable
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError, CheckpointFacts


def take_over(
    source: Path, folder: Path, paradigm: str, *, digests: Mapping[str, str], phase: Phase
) -> Mapping[str, Any]:
    """Copy the files of `source`, so that the store stays complete if the original is deleted.

    Args:
        digests: file → SHA-256 when the grid was read.
        phase: the newest phase that the checkpoint may have been trained on.

    Raises:
        GridError: a file has changed since the grid was read.
        CheckpointError: it is not a checkpoint, or one of another paradigm.
        LeakageError: it was trained on data after its phase, according to its facts.
    """
    for file in digests:
        shutil.copyfile(source / file, folder / file)
    copied = {name: about["sha256"] for name, about in sha256_files(folder).items()}
    if any(copied[file] != digest for file, digest in digests.items()):
        raise GridError(f"{source}: its files changed while the grid was being built; run again")
    found, model = load_checkpoint(folder, paradigm)
    if found.name != paradigm:
        raise CheckpointError(f"{source}: contains a model of {found.name}, not of {paradigm}")
    if PARADIGMS[paradigm].own_token_rows and BlockTable.read(folder) is None:
        raise CheckpointError(
            f"{source}: its {FACTS_FILE} has no blocks of token rows, so merges would mix rows of different "
            "codebooks; save it with this version of mmgrid"
        )
    until = CheckpointFacts.read(folder).trained_until
    if until is not None and until > phase.end:
        raise LeakageError(f"{source}: was trained on data after {phase}, according to its {FACTS_FILE}")
    return {"parameters": sum(weight.numel() for weight in model.parameters())}
