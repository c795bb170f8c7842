"""A checkpoint that was trained elsewhere, copied into the store."""

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
    """Copy the files of `source`, so that the grid stays whole whatever becomes of the original.

    Args:
        digests: SHA-256 of each file, as it was when the grid was read.
        phase: the newest one that the checkpoint may know.

    Raises:
        GridError: a file has changed since the grid was read.
        CheckpointError: it is no checkpoint, or one of another paradigm.
        LeakageError: it declares that it was trained on more than its phase may know.
    """
    for file in digests:
        shutil.copyfile(source / file, folder / file)
    copied = {name: about["sha256"] for name, about in sha256_files(folder).items()}
    if any(copied[file] != digest for file, digest in digests.items()):
        raise GridError(f"{source}: was changed while the grid was being built; run again")
    found, model = load_checkpoint(folder, paradigm)
    if found.name != paradigm:
        raise CheckpointError(f"{source}: holds a model of {found.name}, not of {paradigm}")
    if PARADIGMS[paradigm].own_token_rows and BlockTable.read(folder) is None:
        raise CheckpointError(
            f"{source}: its {FACTS_FILE} names no blocks of token rows, so merges would mix rows of different "
            "codebooks; save it with this version of mmgrid"
        )
    until = CheckpointFacts.read(folder).trained_until
    if until is not None and until > phase.end:
        raise LeakageError(f"{source}: was trained on more than {phase}, by its {FACTS_FILE}")
    return {"parameters": sum(weight.numel() for weight in model.parameters())}
