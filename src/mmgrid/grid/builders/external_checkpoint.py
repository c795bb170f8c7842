"""A checkpoint that somebody else trained, taken into the store."""

import shutil
from collections.abc import Mapping
from typing import Any

from mmgrid.data import LeakageError
from mmgrid.files import sha256_files
from mmgrid.grid.builders.job import Job
from mmgrid.grid.file.load import GridError
from mmgrid.merging import BlockTable
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError, facts, trained_until
from mmgrid.paradigms.registry import open_checkpoint


def take_over(job: Job) -> Mapping[str, Any]:
    """A copy of the folder, so that the grid stays whole whatever becomes of the original.

    Raises:
        GridError: the files are no longer those that were there when the grid was read.
        CheckpointError: it is no checkpoint, or one of another paradigm.
        LeakageError: it says that it was trained on more than its phase may know.
    """
    name, domain, phase = job.cell.key[:3]
    given = next(
        one for one in job.grid.spec.checkpoints if (one.paradigm, one.domain, one.phase) == (name, domain, phase)
    )
    source = job.grid.path(given.path)
    for file in job.recipe["files"]:
        shutil.copyfile(source / file, job.folder / file)
    copied = {name: about["sha256"] for name, about in sha256_files(job.folder).items()}
    if any(copied[file] != digest for file, digest in job.recipe["files"].items()):
        raise GridError(f"{source}: was changed while the grid was being built; run again")
    paradigm, model = open_checkpoint(job.folder, name)
    if paradigm.name != name:
        raise CheckpointError(f"{source}: holds a model of {paradigm.name}, not of {name}")
    if name == "semid" and BlockTable.read(job.folder) is None:
        raise CheckpointError(
            f"{source}: its {FACTS_FILE} names no blocks of token rows, so merges would mix those of different "
            "codebooks; save it with Semid.save"
        )
    until = trained_until(facts(job.folder)) if (job.folder / FACTS_FILE).exists() else None
    if until is not None and until > job.calendar.phase(phase).end:
        raise LeakageError(f"{source}: was trained on more than {job.calendar.phase(phase)}, by its {FACTS_FILE}")
    return {"parameters": sum(weight.numel() for weight in model.parameters())}
